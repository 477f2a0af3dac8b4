// How a chart is drawn, in the words of uPlot.
import type uPlot from 'uplot';
import type { Maybe } from '../lib/types';

/** A named line; `raw` is drawn faintly behind it. */
export interface Line {
  name: string;
  colour: string;
  values: Maybe[];
  raw?: Maybe[];
}

export interface Look {
  logY: boolean;
  stacked: boolean;
  height: number;
  format: (value: number) => string;
}

/** Columns in the order of `chartOptions`' series: steps, raw values, lines. */
export function chartData(steps: number[], lines: Line[], stacked: boolean): uPlot.AlignedData {
  if (stacked) return [steps, ...stack(lines)];
  return [steps, ...lines.map((line) => line.raw ?? []), ...lines.map((line) => line.values)];
}

// The whole first, so that each area paints over the one before and what is seen of it is its share.
function stack(lines: Line[]): number[][] {
  let sum: number[] = [];
  const sums = lines.map((line) => (sum = line.values.map((value, i) => (sum[i] ?? 0) + (value ?? 0))));
  return sums.reverse();
}

/** Options for the lines at this place; colours come from the page's style. */
export function chartOptions(place: HTMLElement, lines: Line[], look: Look): uPlot.Options {
  const style = getComputedStyle(place);
  const ink = style.getPropertyValue('--faint').trim();
  const grid = { stroke: style.getPropertyValue('--line').trim(), width: 1 };
  const axis = { stroke: ink, grid, ticks: { show: false }, font: '11px system-ui', labelFont: '11px system-ui' };
  return {
    width: place.clientWidth || 400,
    height: look.height,
    legend: { show: false },
    padding: [8, 16, 0, 0],
    cursor: { sync: { key: 'steps', scales: ['x', null] }, points: { size: 6 }, drag: { x: true, y: false } },
    scales: {
      x: { time: false },
      y: look.stacked ? { range: [0, 1] } : { distr: look.logY ? 3 : 1 },
    },
    axes: [
      { ...axis, size: 28, gap: 4 },
      {
        ...axis, size: 58, gap: 4,
        // On a logarithmic axis uPlot leaves out some labels by passing null.
        values: (_, ticks) => ticks.map((tick) => ((tick as number | null) === null ? '' : look.format(tick))),
      },
    ],
    series: [{}, ...(look.stacked ? areas(lines) : [...lines.map(faint), ...lines.map(clear)])],
  };
}

const areas = (lines: Line[]): uPlot.Series[] =>
  [...lines].reverse().map((line) => ({ stroke: line.colour, fill: line.colour, width: 0, points: { show: false } }));

const faint = (line: Line): uPlot.Series => ({
  stroke: `${line.colour}80`, width: 1, points: { show: false },
});

const clear = (line: Line): uPlot.Series => ({ stroke: line.colour, width: 2, points: { size: 5, fill: line.colour } });
