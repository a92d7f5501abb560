export const VIEWS = ["write", "teach", "library", "activity", "settings"] as const;
export type View = (typeof VIEWS)[number];

/** Where the person is: `#/teach/history/run_1` is the view, then whatever the view makes of the rest. */
class Route {
	view = $state<View>("write");
	rest = $state.raw<string[]>([]);

	constructor() {
		this.read();
		addEventListener("hashchange", () => this.read());
	}

	go(view: View, ...rest: string[]): void {
		location.hash = href(view, ...rest);
		this.read();
	}

	private read(): void {
		const [view, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
		this.view = VIEWS.find((name) => name === view) ?? "write";
		this.rest = rest;
	}
}

export const route = new Route();

export function href(view: View, ...rest: string[]): string {
	return `#/${[view, ...rest].map(encodeURIComponent).join("/")}`;
}
