// Line colours of middling lightness: readable on a light and on a dark ground.

const WHEEL = [
  '#2f7de1', '#e0803a', '#2aa27c', '#c2509b', '#8b6fd6', '#c9a21b', '#2ba3b8', '#d2525a', '#7a9a3a', '#8a8f98',
];

/** The colour of the domain at this place. */
export const colour = (place: number): string => WHEEL[place % WHEEL.length]!;
