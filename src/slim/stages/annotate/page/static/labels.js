// Classes, predictions and queries in words.

import {state} from "./state.js";

export const className = card => state.session.classes[card.y];

/** A class as the object of a sentence; "object" where its name is only a number. */
export const objectOf = y => (/^[\d\W]+$/.test(state.session.classes[y]) ? "object" : state.session.classes[y].replaceAll("_", " "));

export const prediction = card => `${state.session.classes[card.predicted]} (${Math.round(100 * card.confidence)} %)`;

export function describe(card) {
  return `labelled ${className(card)}${card.predicted === undefined ? "" : `, predicted ${prediction(card)}`}`;
}

export const secondsEach = () => (state.seconds / state.history.length).toFixed(1);
