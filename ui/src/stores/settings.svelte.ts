import { call } from "../api/client";
import type { Settings, SettingsUpdate, SettingsView } from "../api/bindings";
import { debounced, on, onRenewal } from "./events";
import { messages } from "./messages.svelte";

class SettingsStore {
	view = $state.raw<SettingsView | null>(null);

	private readonly reload = debounced(() => void this.load(), 100);

	constructor() {
		on("settings_changed", this.reload);
		onRenewal(this.reload);
	}

	get current(): Settings | null {
		return this.view?.settings ?? null;
	}

	async load(): Promise<void> {
		try {
			this.view = await call("settings_view");
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	/** Saves what changed; throws a `Failure` that names the faulty fields. */
	async save(update: SettingsUpdate): Promise<void> {
		const settings = await call("update_settings", update);
		if (this.view) this.view = { ...this.view, settings };
	}

	/** Throws a `Failure` with all faults when the values cannot be used. */
	async check(update: SettingsUpdate): Promise<void> {
		await call("check_settings", update);
	}

	/** The smallest and largest value of a numeric setting. */
	range(key: keyof Settings): { min: number; max: number } | null {
		const kind = this.view?.descriptions.find((description) => description.key === key)?.kind;
		return kind?.kind === "integer" || kind?.kind === "number" ? { min: kind.min, max: kind.max } : null;
	}
}

export const settings = new SettingsStore();

/** Colours and text size as set; call inside an effect. */
export function applyAppearance(current: Settings | null, prefersDark: boolean): void {
	const theme = current?.theme ?? "system";
	const dark = theme === "dark" || (theme === "system" && prefersDark);
	document.documentElement.dataset.theme = dark ? "dark" : "light";
	document.documentElement.style.fontSize = `${100 * (current?.textScale ?? 1)}%`;
}
