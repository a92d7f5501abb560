import { call, write } from "../../api/client";
import { toFailure, type Failure } from "../../api/errors";
import type { Candidate, FeedbackItem, FeedbackRequest, Notice, WriteEvent, WriteRequest, WriteResult } from "../../api/bindings";
import { app } from "../../stores/app.svelte";
import { messages } from "../../stores/messages.svelte";
import { t } from "../../strings/index.svelte";

export type SheetState = "idle" | "writing" | "done";

/** The text on the sheet: growing while it is written, then the candidates in order of the vote. */
class Session {
	state = $state<SheetState>("idle");
	/** Text of each candidate in the order they are written, with what a Continue started from. */
	growing = $state<string[]>([]);
	/** Candidates that are complete before the vote, by the same index. */
	complete = $state<(Candidate | null)[]>([]);
	result = $state<WriteResult | null>(null);
	request = $state.raw<WriteRequest | null>(null);
	createdAt = $state<string | null>(null);
	/** While writing the index in `growing`, then in `result.candidates`. */
	selected = $state(0);
	notices = $state.raw<Notice[]>([]);
	failure = $state.raw<Failure | null>(null);
	stopping = $state(false);
	/** Tokens of all candidates per second so far. */
	speed = $state(0);
	/** Explore pairs are offered once. */
	pairOpen = $state(false);

	private stopper: AbortController | null = null;
	private tokens = 0;
	private firstAt = 0;

	get candidate(): Candidate | null {
		return this.result?.candidates[this.selected] ?? null;
	}

	/** What the sheet shows, and how much of it was there before a Continue. */
	get text(): string {
		if (this.state === "writing") return this.growing[this.selected] ?? "";
		return this.candidate ? shownText(this.candidate) : "";
	}

	get writtenBefore(): number {
		if (this.state === "writing") return [...this.prefix].length;
		const candidate = this.candidate;
		return candidate && candidate.feedback?.edited_text == null ? (candidate.continued_chars ?? 0) : 0;
	}

	private prefix = "";

	async write(request: WriteRequest, prefix = ""): Promise<void> {
		if (this.state === "writing") return;
		const before = { state: this.state, result: this.result, request: this.request, selected: this.selected, createdAt: this.createdAt };
		this.prefix = prefix;
		this.begin(request);
		const stopper = (this.stopper = new AbortController());
		try {
			await write(request, (event) => this.take(event), stopper.signal);
		} catch (thrown) {
			const failure = toFailure(thrown);
			// What was on the sheet before comes back: an error loses nothing.
			Object.assign(this, before);
			if (failure.code !== "cancelled") messages.report(failure, (inline) => (this.failure = inline));
		} finally {
			this.stopping = false;
			this.stopper = null;
		}
	}

	stop(): void {
		if (this.state !== "writing" || !this.stopper) return;
		this.stopping = true;
		this.stopper.abort();
	}

	/** Goes on from the open candidate. */
	async continue(): Promise<void> {
		const candidate = this.candidate;
		if (!candidate || !this.request) return;
		await this.write({ ...this.request, seed: null, continue_from: candidate.id }, shownText(candidate).trimEnd());
	}

	/** The same request with a fresh seed; a continuation is continued anew from where it started. */
	async again(): Promise<void> {
		if (!this.request) return;
		const before = [...(this.candidate?.text ?? "")].slice(0, this.candidate?.continued_chars ?? 0).join("");
		await this.write({ ...this.request, seed: null }, before);
	}

	async open(generation_id: string): Promise<void> {
		if (this.state === "writing") return;
		try {
			const { request, result, created_at } = await call("generation", { generation_id });
			Object.assign(this, { state: "done", result, request, createdAt: created_at, notices: result.notices ?? [], failure: null, pairOpen: false });
			this.select(0);
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	/** Takes a deleted generation off the sheet. */
	forget(generation_id: string): void {
		if (this.state === "done" && this.result?.generation_id === generation_id) {
			Object.assign(this, { state: "idle", result: null, request: null });
		}
	}

	select(index: number): void {
		this.selected = index;
	}

	/** Stores a verdict, tags, a comment or an edit of a candidate, at once. */
	async feedback(candidate: Candidate, change: Omit<FeedbackRequest, "candidate_id">): Promise<boolean> {
		const old = candidate.feedback;
		// The newest feedback counts as a whole, so it repeats what still holds.
		const verdict = change.verdict ?? old?.verdict ?? null;
		const sameSide = change.verdict === undefined || change.verdict === old?.verdict;
		const request: FeedbackRequest = { candidate_id: candidate.id };
		if (verdict !== null) request.verdict = verdict;
		request.tags = change.tags ?? (sameSide ? (old?.tags ?? []) : []);
		const comment = change.comment !== undefined ? change.comment : sameSide ? (old?.comment ?? null) : null;
		if (comment) request.comment = comment;
		const edited = change.edited_text ?? old?.edited_text ?? null;
		if (edited !== null) request.edited_text = edited;
		try {
			const { feedback_id, taste } = await call("feedback", request);
			const item: FeedbackItem = {
				id: feedback_id,
				candidate_id: candidate.id,
				verdict: verdict ?? 1,
				tags: request.tags,
				comment,
				edited_text: edited,
				created_at: new Date().toISOString(),
			};
			const stored = this.result?.candidates.find(({ id }) => id === candidate.id);
			if (stored) stored.feedback = item;
			app.taste = taste;
			return true;
		} catch (thrown) {
			messages.report(thrown);
			return false;
		}
	}

	/** Answers the explore pair: one comparison, no thumbs. */
	async prefer(better: Candidate, worse: Candidate): Promise<void> {
		this.pairOpen = false;
		try {
			app.taste = (await call("prefer", { better: better.id, worse: worse.id })).taste;
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	private begin(request: WriteRequest): void {
		Object.assign(this, {
			state: "writing",
			growing: [this.prefix],
			complete: [null],
			result: null,
			request,
			createdAt: null,
			selected: 0,
			notices: [],
			failure: null,
			speed: 0,
			pairOpen: false,
		});
		this.tokens = 0;
		this.firstAt = 0;
	}

	private take(event: WriteEvent): void {
		switch (event.event) {
			case "started":
				this.growing = Array.from({ length: event.n }, () => this.prefix);
				this.complete = Array.from({ length: event.n }, () => null);
				this.notices = event.notices;
				break;
			case "retrying":
				this.growing.push(...Array.from({ length: event.n }, () => this.prefix));
				this.complete.push(...Array.from({ length: event.n }, () => null));
				this.select(this.growing.length - event.n);
				this.notices = [...this.notices, { code: "retried", message: t("write.retrying", { member: event.member, count: event.n }) }];
				break;
			case "token": {
				this.growing[event.index] = (this.growing[event.index] ?? this.prefix) + event.text;
				this.tokens++;
				const now = performance.now();
				this.firstAt ||= now;
				const seconds = (now - this.firstAt) / 1000;
				if (seconds > 0.3) this.speed = this.tokens / seconds;
				break;
			}
			case "candidate":
				this.growing[event.index] = event.candidate.text;
				this.complete[event.index] = event.candidate;
				break;
			case "chosen": {
				this.result = event.result;
				this.state = "done";
				this.createdAt = new Date().toISOString();
				this.notices = event.result.notices ?? this.notices;
				const winner = event.result.candidates.findIndex(({ id }) => id === event.result.chosen);
				this.select(Math.max(0, winner));
				this.pairOpen = event.result.explore_pair != null;
				break;
			}
		}
	}
}

export const session = new Session();

/** The text as the person left it. */
export function shownText(candidate: Candidate): string {
	return candidate.feedback?.edited_text ?? candidate.text;
}

export function countWords(text: string): number {
	return text.match(/\S+/g)?.length ?? 0;
}

/** Paragraphs, each split into what was there before a Continue and what is new. `before` counts Unicode characters. */
export function paragraphs(text: string, before: number): { old: string; fresh: string }[] {
	const border = [...text].slice(0, before).join("").length;
	const result: { old: string; fresh: string }[] = [];
	for (const match of text.matchAll(/[^\n]+/g)) {
		if (match[0].trim() === "") continue;
		const cut = Math.min(Math.max(border - match.index, 0), match[0].length);
		result.push({ old: match[0].slice(0, cut), fresh: match[0].slice(cut) });
	}
	return result;
}
