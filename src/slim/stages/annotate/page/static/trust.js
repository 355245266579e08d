// How reliable the scores are: for each class its AUC, the trend, and advice on what to do next.

import {$, bold, make} from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const holder = $("trust"), together = $("together");

/** The AUC after each answer, with its interval; the dashed line is chance. */
function trend(steps) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 26");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const add = (name, d) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", d);
    svg.append(path);
  };
  const y = value => 2 + 22 * (1 - value);
  const known = steps.filter(([auc]) => auc !== null);
  if (known.length) {
    const points = known.length === 1 ? [known[0], known[0]] : known;
    const x = i => (100 * i) / (points.length - 1);
    const line = (at, from) => points.map((step, i) => `${i || from ? "L" : "M"}${x(i).toFixed(1)} ${y(step[at]).toFixed(1)}`).join("");
    const back = points.map((step, i) => `L${x(i).toFixed(1)} ${y(step[1]).toFixed(1)}`).reverse().join("");
    add("band", `${line(2)}${back}z`);
    add("path", line(0));
  }
  add("chance", "M0 13L100 13");
  return svg;
}

function one(line) {
  const element = make("div", "class");
  element.dataset.state = line.state;
  const auc = make("span", "auc");
  if (line.trend.at(-1)?.[0] == null) auc.textContent = `${line.n_core} core, ${line.n_spurious} spurious`;
  else auc.append("AUC ", make("strong", "", line.auc.toFixed(2)), ` (${line.low.toFixed(2)} to ${line.high.toFixed(2)})`);
  auc.title = "Probability that a photo judged core scores higher than one judged spurious, each scored without its own answer: 0.5 is chance, 1 is perfect. In brackets: 95 % confidence interval.";
  element.append(bold(line.name), auc, trend(line.trend), make("p", "", line.advice));
  return element;
}

export function showTrust(summary) {
  const lines = summary.classes.map(one);
  holder.replaceChildren(...lines);
  const people = Object.entries(summary.people);
  if (people.length > 1) {
    const who = people.map(([name, n]) => `${name} ${n}`).join(", ");
    const alpha = summary.agreement === null ? "no photo judged by more than one person yet" : `agreement ${summary.agreement.toFixed(2)} (Krippendorff’s alpha; 1 = perfect)`;
    const differ = summary.differing ? ` They disagree about ${summary.differing} ${summary.differing === 1 ? "photo" : "photos"} (${summary.settled} settled).` : "";
    together.textContent = `${who}: ${alpha}.${differ}`;
  }
  together.hidden = people.length < 2;
}
