"use strict";
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const items = document.getElementsByClassName("item");
const help = $("help");
let current = null; // the image that the keys act on

// One listener for all sliders and outlines: nothing is done per image while the page loads.
const slide = (slider) => slider.parentElement.style.setProperty("--at", slider.value + "%");
document.addEventListener("input", (event) => event.target.matches(".compare input") && slide(event.target));

const light = (event, on) => {
  const fault = event.target.closest?.("[data-region]");
  if (!fault) return;
  for (const part of fault.closest(".judged").querySelectorAll(`[data-region="${fault.dataset.region}"]`)) part.classList.toggle("lit", on);
};
for (const [kind, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]]) {
  document.addEventListener(kind, (event) => light(event, on));
}
document.addEventListener("focusin", (event) => { current = event.target.closest(".item") ?? current; });
document.addEventListener("pointerdown", (event) => { current = event.target.closest(".item") ?? current; });

const choices = [...document.querySelectorAll("[data-filter]")];
const texts = new WeakMap(); // what an image is searched by, read when it is searched first
const text = (item) => {
  if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
  return texts.get(item);
};
const filter = () => {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = choices.filter((choice) => choice.value).map((choice) => [choice.dataset.filter, choice.value]);
  let shown = 0;
  for (const item of items) {
    const fits = wanted.every(([name, value]) => item.dataset[name].split("\n").includes(value));
    item.hidden = !fits || (words.length > 0 && !words.every((word) => text(item).includes(word)));
    shown += !item.hidden;
  }
  const all = items.length === 1 ? "1 image" : `${items.length} images`;
  $("count").textContent = shown === items.length ? all : `${shown} of ${all}`;
};
let waiting = 0;
const soon = () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); };

const showMasks = (on) => {
  if (!$("masks")) return;
  root.classList.toggle("bare", !on);
  $("masks").setAttribute("aria-pressed", on);
};
const themes = ["", "light", "dark"];
const setTheme = (name) => {
  if (name) root.dataset.theme = name; else delete root.dataset.theme;
  $("theme").textContent = { light: "Light", dark: "Dark" }[name] ?? "Theme";
  try { localStorage.setItem("refine-theme", name); } catch { /* a page from a file may have no storage */ }
};
const nextTheme = () => setTheme(themes[(themes.indexOf(root.dataset.theme ?? "") + 1) % themes.length]);
try { if (localStorage.getItem("refine-theme")) setTheme(localStorage.getItem("refine-theme")); } catch { /* as above */ }

const go = (item, open) => {
  if (open) item.open = true;
  (item.querySelector("summary") ?? item).focus({ preventScroll: true });
  item.scrollIntoView({ block: "start" });
  current = item;
};
// Next or previous image that is not filtered away; an open one hands its place on.
const step = (by) => {
  const seen = [...items].filter((item) => !item.hidden);
  const at = seen.indexOf(current);
  const next = at < 0 ? seen[0] : seen[at + by];
  if (!next) return;
  const hand = at >= 0 && current.open && !next.open;
  if (hand) current.open = false;
  go(next, hand);
};
const move = (by, far) => {
  const slider = current?.querySelector(".compare input") ?? document.querySelector(".item[open]:not([hidden]) .compare input");
  if (!slider) return;
  slider.value = far ? (by > 0 ? 100 : 0) : Number(slider.value) + 5 * by;
  slide(slider);
};
const KEYS = {
  j: () => step(1), k: () => step(-1), m: () => showMasks(root.classList.contains("bare")), t: nextTheme,
  "/": () => $("search").focus(), "?": () => help.showModal(),
  ArrowLeft: (event) => move(-1, event.shiftKey), ArrowRight: (event) => move(1, event.shiftKey),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.target.matches("input[type=search], select") && event.key !== "Escape") return;
  if (event.key === "Escape") event.target.blur();
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});

const arrive = () => {
  const item = location.hash ? $(decodeURIComponent(location.hash.slice(1))) : null;
  if (item?.classList.contains("item")) go(item, true);
};
addEventListener("hashchange", arrive);
arrive();
if ($("tools")) {
  $("tools").hidden = false;
  $("search").addEventListener("input", soon);
  for (const choice of choices) choice.addEventListener("change", filter);
  $("masks")?.addEventListener("click", () => showMasks(root.classList.contains("bare")));
  $("theme").addEventListener("click", nextTheme);
  $("ask").addEventListener("click", () => help.showModal());
  $("close").addEventListener("click", () => help.close());
}
