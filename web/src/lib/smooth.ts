// Exponential smoothing, corrected for its start (Kingma and Ba 2014, section 3, use the same
// correction), so that the first points are not pulled to zero.
import type { Maybe } from './types';

/** `weight` in 0..1: how much of the past stays at each point. Gaps stay gaps. */
export function smooth(values: Maybe[], weight: number): Maybe[] {
  if (weight <= 0) return values;
  let sum = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}
