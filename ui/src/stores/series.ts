import type { Metric } from "../api/bindings";

/** Points of one curve: `x` rises, `y` may have gaps. */
export interface Curve {
	x: number[];
	y: number[];
}

/** Most points that a curve is drawn with; more cannot be seen and cost time. */
export const MOST_POINTS = 2000;

/** The metrics of a run in order of step; batches may overlap, and a resumed run goes back to its checkpoint. */
export class MetricSeries {
	readonly points: Metric[] = [];

	get last(): Metric | null {
		return this.points.at(-1) ?? null;
	}

	add(batch: readonly Metric[]): void {
		for (const metric of batch) {
			// Steps at or after this one were seen before: the newer report replaces them.
			while (this.points.length > 0 && (this.points.at(-1)?.step ?? 0) >= metric.step) this.points.pop();
			this.points.push(metric);
		}
	}

	/** Puts a loaded history under the points that arrived meanwhile. */
	merge(history: readonly Metric[]): void {
		const end = history.at(-1)?.step ?? -1;
		const newer = this.points.filter(({ step }) => step > end);
		this.points.length = 0;
		this.add(history);
		this.add(newer);
	}

	get train(): Curve {
		return curve(this.points, ({ loss }) => loss);
	}

	get heldout(): Curve {
		return curve(this.points, ({ heldout_loss }) => heldout_loss);
	}
}

/** Exponential moving average with bias correction, as in Adam (arXiv 1412.6980); `weight` 0 changes nothing. */
export function smooth(values: readonly number[], weight: number): number[] {
	if (weight <= 0) return [...values];
	let average = 0;
	return values.map((value, index) => {
		average = weight * average + (1 - weight) * value;
		return average / (1 - weight ** (index + 1));
	});
}

/** At most `most` points that keep both ends and, per bucket, the lowest and the highest value, so that no spike is lost. */
export function decimate({ x, y }: Curve, most = MOST_POINTS): Curve {
	if (x.length <= most) return { x: [...x], y: [...y] };
	const kept: number[] = [0];
	const buckets = Math.floor((most - 2) / 2);
	const inner = x.length - 2;
	for (let bucket = 0; bucket < buckets; bucket++) {
		const from = 1 + Math.floor((bucket * inner) / buckets);
		const to = 1 + Math.floor(((bucket + 1) * inner) / buckets);
		let low = from;
		let high = from;
		for (let i = from; i < to; i++) {
			if (at(y, i) < at(y, low)) low = i;
			if (at(y, i) > at(y, high)) high = i;
		}
		if (low === high) kept.push(low);
		else kept.push(Math.min(low, high), Math.max(low, high));
	}
	kept.push(x.length - 1);
	return { x: kept.map((i) => at(x, i)), y: kept.map((i) => at(y, i)) };
}

function curve(points: readonly Metric[], value: (metric: Metric) => number | null): Curve {
	const result: Curve = { x: [], y: [] };
	for (const metric of points) {
		const y = value(metric);
		// JSON has no NaN: a diverged loss arrives as null and is a gap.
		if (y === null || !Number.isFinite(y)) continue;
		result.x.push(metric.step);
		result.y.push(y);
	}
	return result;
}

function at(values: readonly number[], index: number): number {
	return values[index] ?? 0;
}
