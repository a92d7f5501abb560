import { SvelteMap } from "svelte/reactivity";
import { call } from "../api/client";
import type { Job, JobState, Run, Search, TrainQueued } from "../api/bindings";
import { debounced, on, onRenewal } from "./events";
import { messages } from "./messages.svelte";
import { MetricSeries } from "./series";

/** The chart is redrawn at most this often. */
export const REDRAW_MS = 100;

const LIVE: JobState[] = ["running", "queued", "paused"];

/** Jobs, runs and their metrics: loaded once, then kept true by events. */
class WorkStore {
	jobs = $state.raw<Job[]>([]);
	runs = $state.raw<Run[]>([]);
	loaded = $state(false);
	/** Counts redraws per run; a chart reads it to know that its series has grown. */
	readonly versions = new SvelteMap<string, number>();
	/** Searches of runs on screen. */
	readonly searches = new SvelteMap<string, Search>();

	private readonly series = new Map<string, MetricSeries>();
	private readonly stale = new Set<string>();
	private timer: ReturnType<typeof setTimeout> | undefined;
	private readonly reload = debounced(() => void this.load(), 150);

	constructor() {
		on("job_changed", ({ job }) => (this.jobs = upsert(this.jobs, job, (one) => one.id)));
		on("run_changed", ({ run }) => (this.runs = upsert(this.runs, run, (one) => one.run_id)));
		on("run_removed", ({ run_id }) => {
			this.runs = this.runs.filter((run) => run.run_id !== run_id);
			this.series.delete(run_id);
			this.searches.delete(run_id);
		});
		on("search_changed", ({ search }) => this.searches.set(search.run_id, search));
		on("run_metrics", ({ run_id, metrics }) => {
			this.seriesOf(run_id).add(metrics);
			this.redraw(run_id);
		});
		onRenewal(() => {
			this.reload();
			// Metrics are not replayed: ask again for those of runs on screen.
			for (const run_id of this.series.keys()) void this.loadMetrics(run_id);
			for (const run_id of this.searches.keys()) void this.loadSearch(run_id);
		});
	}

	get running(): Job | null {
		return this.jobs.find(({ state }) => state === "running") ?? null;
	}

	/** The run that Train shows: what is on its way, else the newest. */
	get current(): Run | null {
		return this.runs.find(({ status }) => LIVE.includes(status)) ?? this.runs[0] ?? null;
	}

	runOf(run_id: string | null): Run | null {
		return this.runs.find((run) => run.run_id === run_id) ?? null;
	}

	jobOf(run: Run): Job | null {
		return this.jobs.find((job) => job.id === run.job_id) ?? null;
	}

	/** The series of a run; empty until its metrics were loaded or arrive. */
	seriesOf(run_id: string): MetricSeries {
		let series = this.series.get(run_id);
		if (!series) this.series.set(run_id, (series = new MetricSeries()));
		return series;
	}

	async load(): Promise<void> {
		try {
			const [jobs, runs] = await Promise.all([call("jobs", { limit: 200 }), call("runs", { limit: 200 })]);
			this.jobs = newestFirst(jobs);
			this.runs = newestFirst(runs);
			this.loaded = true;
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	async loadMetrics(run_id: string): Promise<void> {
		try {
			const { metrics } = await call("run_metrics", { run_id });
			this.seriesOf(run_id).merge(metrics);
			this.redraw(run_id);
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	async loadSearch(run_id: string): Promise<void> {
		try {
			this.searches.set(run_id, await call("run_search", { run_id }));
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	pause = (job_id: string) => this.change(() => call("pause_job", { job_id }));
	cancel = (job_id: string) => this.change(() => call("cancel_job", { job_id }));
	resume = (job_id: string) => this.change(() => call("resume_job", { job_id }));

	async resumeRun(run_id: string): Promise<TrainQueued | null> {
		try {
			const queued = await call("resume_run", { run_id });
			this.reload();
			return queued;
		} catch (thrown) {
			messages.report(thrown);
			return null;
		}
	}

	private async change(action: () => Promise<Job>): Promise<void> {
		try {
			this.jobs = upsert(this.jobs, await action(), (one) => one.id);
		} catch (thrown) {
			messages.report(thrown);
			this.reload();
		}
	}

	private redraw(run_id: string): void {
		this.stale.add(run_id);
		this.timer ??= setTimeout(() => {
			this.timer = undefined;
			for (const id of this.stale) this.versions.set(id, (this.versions.get(id) ?? 0) + 1);
			this.stale.clear();
		}, REDRAW_MS);
	}
}

export const work = new WorkStore();

function upsert<T extends { created_at: string }>(list: T[], item: T, id: (item: T) => string): T[] {
	const index = list.findIndex((one) => id(one) === id(item));
	return index < 0 ? newestFirst([item, ...list]) : list.with(index, item);
}

function newestFirst<T extends { created_at: string }>(list: T[]): T[] {
	return [...list].sort((a, b) => b.created_at.localeCompare(a.created_at));
}
