// A slider that shows more or less of the labels over all pictures; without scripts, half.
for (const bar of document.querySelectorAll(".over")) {
  const slider = bar.querySelector("input");
  slider.oninput = () => document.body.style.setProperty("--over", slider.value);
  bar.hidden = false;
}
