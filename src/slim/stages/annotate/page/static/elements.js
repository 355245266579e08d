// The page's elements: found by their id, and made.

export const $ = id => document.getElementById(id);

export function make(tag, name = "", ...parts) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...parts);
  return element;
}

export const bold = text => make("b", "", text);
