import { call } from "../../api/client";
import { GENRES, STYLES } from "../../api/bindings";
import type { Genre, GenreMix, Style, WriteRequest } from "../../api/bindings";
import { debounced } from "../../stores/events";

export const SAVE_AFTER_MS = 800;

export type AdapterMode = "active" | "plain" | "pick";

/** What stands in the desk. `null` means: as the settings say. */
interface Fields {
	prompt: string;
	any: boolean;
	genres: Record<Genre, number>;
	style: Style | null;
	maxTokens: number | null;
	temperature: number | null;
	n: number | null;
	seed: number | null;
	base: string | null;
	adapterMode: AdapterMode;
	adapterId: string | null;
	adapterStrength: number;
}

/** The desk's fields, restored at start and saved as they change. */
class Form {
	fields = $state<Fields>(blank());
	restored = $state(false);

	private saved = "";
	private readonly saveSoon = debounced(() => void this.save(), SAVE_AFTER_MS);

	/** Whether the sliders, when they count, say anything. */
	get genresMissing(): boolean {
		return !this.fields.any && GENRES.every(({ name }) => this.fields.genres[name] === 0);
	}

	async restore(): Promise<void> {
		try {
			const { json } = await call("draft");
			// What was typed while the draft was on its way wins.
			if (json && this.fields.prompt === "") this.fields = { ...blank(), ...sound(json) };
			this.saved = json;
		} catch {
			// A draft that cannot be read is an empty desk, not an error worth a message.
		}
		this.restored = true;
	}

	/** Call when any field has changed (an effect reads `json`). */
	changed(): void {
		if (this.restored && this.json !== this.saved) this.saveSoon();
	}

	get json(): string {
		return JSON.stringify(this.fields);
	}

	async save(): Promise<void> {
		const json = this.json;
		if (!this.restored || json === this.saved) return;
		this.saved = json;
		try {
			await call("save_draft", { json });
		} catch {
			// Tried again with the next change.
			this.saved = "";
		}
	}

	/** The request that Write sends; a seed only if one was typed. */
	request(): WriteRequest {
		const { prompt, any, genres, style, maxTokens, temperature, n, seed, base, adapterMode, adapterId, adapterStrength } = this.fields;
		const mix: GenreMix = {};
		if (!any) for (const { name } of GENRES) if (genres[name] > 0) mix[name] = genres[name];
		const request: WriteRequest = { prompt, genres: mix };
		if (style) request.style = style;
		if (maxTokens !== null) request.max_tokens = maxTokens;
		if (temperature !== null) request.temperature = temperature;
		if (n !== null) request.n = n;
		if (seed !== null) request.seed = seed;
		if (base !== null) request.base = base;
		if (adapterMode === "plain") request.adapters = [];
		if (adapterMode === "pick" && adapterId) request.adapters = [{ id: adapterId, strength: adapterStrength }];
		return request;
	}

	/** Puts a stored request back on the desk. */
	take(request: WriteRequest): void {
		const mix = Object.entries(request.genres ?? {}).filter(([, weight]) => (weight ?? 0) > 0) as [Genre, number][];
		// Weights may be 0–1 or 0–100; the sliders are 0–100.
		const scale = mix.every(([, weight]) => weight <= 1) ? 100 : 1;
		this.fields = {
			...blank(),
			prompt: request.prompt,
			any: mix.length === 0,
			genres: { ...noGenres(), ...Object.fromEntries(mix.map(([name, weight]) => [name, Math.round(weight * scale)])) },
			style: request.style ?? null,
			maxTokens: request.max_tokens ?? null,
			temperature: request.temperature ?? null,
			n: request.n ?? null,
		};
	}
}

export const form = new Form();

function blank(): Fields {
	return {
		prompt: "",
		any: true,
		genres: noGenres(),
		style: null,
		maxTokens: null,
		temperature: null,
		n: null,
		seed: null,
		base: null,
		adapterMode: "active",
		adapterId: null,
		adapterStrength: 1,
	};
}

function noGenres(): Record<Genre, number> {
	return Object.fromEntries(GENRES.map(({ name }) => [name, 0])) as Record<Genre, number>;
}

/** A draft may come from another version: takes over only what has the right type. */
function sound(json: string): Partial<Fields> {
	const read: unknown = JSON.parse(json);
	if (typeof read !== "object" || read === null) return {};
	const found = read as Record<string, unknown>;
	const kept: Record<string, unknown> = {};
	for (const [name, value] of Object.entries(blank())) {
		const stored = found[name];
		if (name === "style") {
			if (STYLES.some((style) => style.name === stored)) kept[name] = stored;
		} else if (name === "genres") {
			if (typeof stored === "object" && stored !== null) kept[name] = genresFrom(stored as Record<string, unknown>);
		} else if (value === null ? stored === null || ["number", "string"].includes(typeof stored) : typeof stored === typeof value) {
			kept[name] = stored;
		}
	}
	return kept as Partial<Fields>;
}

function genresFrom(stored: Record<string, unknown>): Record<Genre, number> {
	const genres = noGenres();
	for (const { name } of GENRES) {
		const weight = stored[name];
		if (typeof weight === "number" && weight >= 0 && weight <= 100) genres[name] = Math.round(weight);
	}
	return genres;
}
