import { expect, test } from "vitest";
import { decimate, MetricSeries, MOST_POINTS, smooth } from "../src/stores/series";
import { metricsCsv } from "../src/views/Teach/export";
import { makeMetrics } from "./fixtures";

test("a long curve is drawn with at most 2,000 points, both ends and every spike kept", () => {
	const x = Array.from({ length: 20_000 }, (_, index) => index);
	const y = x.map((step) => 3 * Math.exp(-step / 5000));
	y[777] = 50;
	y[13_131] = -50;
	const drawn = decimate({ x, y });
	expect(drawn.x.length).toBeLessThanOrEqual(MOST_POINTS);
	expect(drawn.x[0]).toBe(0);
	expect(drawn.x.at(-1)).toBe(19_999);
	expect(drawn.y).toContain(50);
	expect(drawn.y).toContain(-50);
	expect(drawn.x.every((step, index) => index === 0 || step > (drawn.x[index - 1] ?? 0)), "steps rise").toBe(true);
});

test("a short curve is drawn as it is", () => {
	expect(decimate({ x: [1, 2, 3], y: [3, 1, 2] })).toEqual({ x: [1, 2, 3], y: [3, 1, 2] });
});

test("smoothing keeps a constant and calms a zigzag", () => {
	expect(smooth([2, 2, 2, 2], 0.9).every((value) => Math.abs(value - 2) < 1e-12)).toBe(true);
	const calm = smooth([0, 1, 0, 1, 0, 1, 0, 1], 0.9);
	expect(Math.max(...calm.slice(2)) - Math.min(...calm.slice(2))).toBeLessThan(0.35);
	expect(smooth([3, 1], 0)).toEqual([3, 1]);
});

test("batches that overlap are counted once, and a resumed run goes on from its checkpoint", () => {
	const series = new MetricSeries();
	series.add(makeMetrics(0, 30));
	series.add(makeMetrics(20, 40));
	expect(series.points.map(({ step }) => step)).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
	series.add(makeMetrics(25, 26));
	expect(series.last?.step, "steps after the checkpoint are gone").toBe(26);
});

test("a loaded history goes under the points that arrived meanwhile", () => {
	const series = new MetricSeries();
	series.add(makeMetrics(50, 60));
	series.merge(makeMetrics(0, 55));
	expect(series.points.map(({ step }) => step)).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
	expect(series.heldout.x).toEqual([10, 20, 30, 40, 50, 60]);
});

test("the table of figures leaves unmeasured cells empty", () => {
	const [header, first] = metricsCsv("run_1", makeMetrics(0, 1)).split("\n");
	expect(header).toBe("step,total_steps,loss,heldout_loss,lr,tokens_per_second,eta_s");
	expect(first?.split(",")[3]).toBe("");
});
