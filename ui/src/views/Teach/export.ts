import type { Metric } from "../../api/bindings";

const COLUMNS = ["step", "total_steps", "loss", "heldout_loss", "lr", "tokens_per_second", "eta_s"] as const satisfies readonly (keyof Metric)[];

/** The metrics of a run as CSV with a header; what was not measured is an empty cell. */
export function metricsCsv(_run_id: string, metrics: readonly Metric[]): string {
	const rows = metrics.map((metric) => COLUMNS.map((name) => metric[name] ?? "").join(","));
	return [COLUMNS.join(","), ...rows].join("\n") + "\n";
}

export function metricsJson(run_id: string, metrics: readonly Metric[]): string {
	return JSON.stringify({ run_id, metrics }, null, "\t") + "\n";
}
