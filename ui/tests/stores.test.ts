import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Failure } from "../src/api/errors";
import { app } from "../src/stores/app.svelte";
import { startEvents } from "../src/stores/events";
import { messages } from "../src/stores/messages.svelte";
import { applyAppearance, settings } from "../src/stores/settings.svelte";
import { work } from "../src/stores/work.svelte";
import * as sample from "./fixtures";
import { ScriptedTransport } from "./scripted";

let end: () => void = () => undefined;

function start(answers: ConstructorParameters<typeof ScriptedTransport>[0] = {}): ScriptedTransport {
	const transport = new ScriptedTransport(answers);
	end = startEvents((state) => (app.link = state));
	return transport;
}

beforeEach(() => vi.useFakeTimers());
afterEach(() => {
	end();
	vi.useRealTimers();
	messages.toasts = [];
	messages.dialog = null;
});

test("a change of the settings reloads the settings and nothing else, once for many", async () => {
	const transport = start();
	for (let i = 0; i < 5; i++) transport.announce({ change: "settings_changed", data: { keys: ["theme"] } });
	await vi.advanceTimersByTimeAsync(1000);
	expect(transport.asked.map(({ name }) => name)).toEqual(["settings_view"]);
	expect(settings.current?.theme).toBe("system");
});

test("jobs and runs are put in place from their events, without asking", async () => {
	const transport = start({ jobs: () => [sample.makeJob({ progress: 0.1 })], runs: () => [sample.makeRun({ status: "running" })] });
	await work.load();
	const asked = transport.inputs("runs").length;
	transport.announce({ change: "job_changed", data: { job: sample.makeJob({ progress: 0.7 }) } });
	transport.announce({ change: "run_changed", data: { run: sample.makeRun({ status: "failed" }) } });
	transport.announce({ change: "run_changed", data: { run: sample.makeRun({ run_id: "run_2", created_at: "2026-11-22T00:00:00.000Z" }) } });
	expect(work.jobs[0]?.progress).toBe(0.7);
	expect(work.runs.map(({ run_id, status }) => `${run_id} ${status}`)).toEqual(["run_2 completed", "run_1 failed"]);
	expect(transport.inputs("runs").length).toBe(asked);
	transport.announce({ change: "run_removed", data: { run_id: "run_2" } });
	expect(work.runs).toHaveLength(1);
});

test("metrics are drawn at most ten times a second, however often they come", async () => {
	const transport = start();
	const before = work.versions.get("run_9") ?? 0;
	for (let step = 0; step < 500; step++) {
		transport.announce({ change: "run_metrics", data: { run_id: "run_9", metrics: sample.makeMetrics(step, step + 1, 500) } });
		await vi.advanceTimersByTimeAsync(2);
	}
	await vi.advanceTimersByTimeAsync(200);
	expect(work.seriesOf("run_9").points).toHaveLength(500);
	expect((work.versions.get("run_9") ?? 0) - before, "one second of points").toBeLessThanOrEqual(11);
});

test("after a break the metrics on screen are asked for again", async () => {
	const transport = start({ run_metrics: ({ run_id }) => ({ run_id, metrics: sample.makeMetrics(0, 60) }) });
	transport.announce({ change: "run_metrics", data: { run_id: "run_8", metrics: sample.makeMetrics(0, 10) } });
	transport.link("lost");
	expect(app.link).toBe("lost");
	transport.link("live");
	await vi.advanceTimersByTimeAsync(500);
	expect(transport.inputs("run_metrics")).toContainEqual({ run_id: "run_8" });
	expect(work.seriesOf("run_8").points).toHaveLength(60);
});

test("an error is shown where its code says", () => {
	start();
	const inline: Failure[] = [];
	messages.report(new Failure({ code: "invalid_input", message: "Too many." }), (failure) => inline.push(failure));
	expect(inline).toHaveLength(1);
	expect(messages.toasts).toHaveLength(0);
	messages.report(new Failure({ code: "invalid_input", message: "Too many." }));
	expect(messages.toasts, "no place of its own: at the edge").toHaveLength(1);
	messages.report(new Failure({ code: "disk_full", message: "The disk is full." }));
	expect(messages.dialog?.code).toBe("disk_full");
});

test("the same message twice is one message, and messages go by themselves", async () => {
	start();
	messages.say("Copied");
	messages.say("Copied");
	expect(messages.toasts).toHaveLength(1);
	await vi.advanceTimersByTimeAsync(6000);
	expect(messages.toasts).toHaveLength(0);
});

test("colours follow the desktop unless the settings say otherwise, and text scales from the root", () => {
	applyAppearance(sample.settings, true);
	expect(document.documentElement.dataset.theme).toBe("dark");
	applyAppearance({ ...sample.settings, theme: "light", textScale: 1.5 }, true);
	expect(document.documentElement.dataset.theme).toBe("light");
	expect(document.documentElement.style.fontSize).toBe("150%");
});
