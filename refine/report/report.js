"use strict";
for (const slider of document.querySelectorAll(".compare input")) {
  const move = () => slider.parentElement.style.setProperty("--at", slider.value + "%");
  slider.addEventListener("input", move);
  move();
}
// A fault lights up wherever it is named: its outline, its card, its entry in the list.
const light = (event, on) => {
  const fault = event.target.closest("[data-region]");
  if (!fault) return;
  const name = fault.dataset.region;
  for (const part of fault.closest("article").querySelectorAll(`[data-region="${name}"], [data-tip="${name}"]`)) {
    part.classList.toggle("lit", on);
  }
};
for (const [kind, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]]) {
  document.addEventListener(kind, (event) => light(event, on));
}
