// Sliders that show more or less of the labels over all pictures; without scripts, half.
const sliders = document.querySelectorAll(".over input");
for (const slider of sliders) {
  slider.oninput = () => {
    document.body.style.setProperty("--over", slider.value);
    for (const other of sliders) other.value = slider.value;
  };
  slider.closest(".over").hidden = false;
}
