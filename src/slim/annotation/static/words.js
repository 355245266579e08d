// How a query is called.

import {state} from "./state.js";

export const className = card => state.session.classes[card.y];

/** What a class is called within a sentence; a number is no name. */
export const objectOf = y => (/^[\d\W]+$/.test(state.session.classes[y]) ? "object" : state.session.classes[y].replaceAll("_", " "));

export const prediction = card => `${state.session.classes[card.predicted]} (${Math.round(100 * card.confidence)} %)`;

export function describe(card) {
  return `label ${className(card)}${card.predicted === undefined ? "" : `, model says ${prediction(card)}`}`;
}

export const secondsEach = () => (state.seconds / state.history.length).toFixed(1);
