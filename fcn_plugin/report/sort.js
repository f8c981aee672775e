// Buttons that order the table of classes; without scripts it stays in the data set's order.
for (const bar of document.querySelectorAll("[data-orders]")) {
  const body = document.getElementById(bar.dataset.orders).tBodies[0];
  for (const button of bar.querySelectorAll("button")) {
    button.onclick = () => {
      const value = (row) => Number(row.dataset[button.dataset.by]);
      body.append(...[...body.rows].sort((a, b) => value(a) - value(b)));
      for (const other of bar.querySelectorAll("button"))
        other.setAttribute("aria-pressed", other === button);
    };
  }
  bar.hidden = false;
}
