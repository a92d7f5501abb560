//! The window: one page, no way out of it, and no flash of white before it is there.

use std::time::{Duration, Instant};
use tauri::{
    AppHandle, Manager, Theme, Url, WebviewUrl, WebviewWindow, WebviewWindowBuilder,
    webview::{Color, NewWindowResponse, PageLoadEvent},
};
use tauri_plugin_window_state::StateFlags;

const LABEL: &str = "main";
/// The colours of paper in `ui/src/styles`, for the moment before the page paints its own.
const PAPER: Color = Color(0xf7, 0xf3, 0xea, 0xff);
const PAPER_AT_NIGHT: Color = Color(0x19, 0x18, 0x16, 0xff);
/// Show the window even if the page never loads, so that a failure can be seen.
const SHOW_AT_LATEST: Duration = Duration::from_secs(3);

/// Opens the window, hidden until its page is loaded.
pub fn open(desktop: &AppHandle, started: Instant) -> tauri::Result<()> {
    let window = WebviewWindowBuilder::new(desktop, LABEL, WebviewUrl::default())
        .title("Inkling")
        .inner_size(1280.0, 860.0)
        .min_inner_size(1024.0, 640.0)
        .visible(false)
        .background_color(PAPER)
        .on_navigation(is_own_page)
        .on_new_window(|_address, _features| NewWindowResponse::Deny)
        .on_page_load(move |window, load| {
            if load.event() == PageLoadEvent::Finished {
                trace("page loaded", started);
                show(&window);
            }
        })
        .build()?;
    if window.theme().is_ok_and(|theme| theme == Theme::Dark) {
        window.set_background_color(Some(PAPER_AT_NIGHT))?;
    }
    std::thread::spawn(move || {
        std::thread::sleep(SHOW_AT_LATEST);
        show(&window);
    });
    Ok(())
}

/// Brings the window to the front.
pub fn focus(desktop: &AppHandle) {
    if let Some(window) = desktop.get_webview_window(LABEL) {
        drop(window.unminimize());
        show(&window);
        drop(window.set_focus());
    }
}

/// What is kept from one start to the next: place and size, but not whether the window was hidden.
pub fn remembered() -> StateFlags {
    StateFlags::all() - StateFlags::VISIBLE
}

/// With INKLING_TRACE_START, prints how long after the start of the process something happened.
pub fn trace(what: &str, started: Instant) {
    if traced() {
        eprintln!("start: {what} after {} ms", started.elapsed().as_millis());
    }
}

fn traced() -> bool {
    std::env::var_os("INKLING_TRACE_START").is_some()
}

/// A window that cannot be shown is closing; there is nobody to tell.
fn show(window: &WebviewWindow) {
    drop(window.show());
}

/// The policy of the page stops requests, not navigation: a link or a script could still carry text out in an address.
fn is_own_page(address: &Url) -> bool {
    match address.scheme() {
        "tauri" => address.host_str() == Some("localhost"),
        "http" | "https" => address.host_str() == Some("tauri.localhost"),
        "about" => address.path() == "blank",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_shows_only_its_own_page() {
        for (address, allowed) in [
            ("tauri://localhost/", true),
            ("http://tauri.localhost/#/teach", true),
            ("about:blank", true),
            ("tauri://elsewhere/", false),
            ("http://localhost:11434/", false),
            ("https://example.org/?stolen=text", false),
            ("http://tauri.localhost.example.org/", false),
            ("file:///etc/passwd", false),
            ("data:text/html,hello", false),
            ("javascript:alert(1)", false),
        ] {
            assert_eq!(is_own_page(&Url::parse(address).unwrap()), allowed, "{address}");
        }
    }
}
