//! Streams to the page in batches: one message per token or metric costs the web view ten times as much.

use domain::WriteEvent;
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How often a silent stream looks whether somebody still listens.
const LISTENING: Duration = Duration::from_secs(1);

/// Gathers tokens; everything else goes out at once, and so does the first token, which people wait for.
pub struct Tokens<Send: FnMut(Vec<WriteEvent>)> {
    pace: Duration,
    waiting: Vec<WriteEvent>,
    sent: Option<Instant>,
    send: Send,
}

impl<Send: FnMut(Vec<WriteEvent>)> Tokens<Send> {
    pub fn new(pace: Duration, send: Send) -> Self {
        Self { pace, waiting: Vec::new(), sent: None, send }
    }

    pub fn push(&mut self, event: WriteEvent) {
        let is_token = matches!(event, WriteEvent::Token { .. });
        self.waiting.push(event);
        if !is_token {
            self.flush();
        } else if self.sent.is_none_or(|at| at.elapsed() >= self.pace) {
            self.flush();
            self.sent = Some(Instant::now());
        }
    }

    pub fn flush(&mut self) {
        if !self.waiting.is_empty() {
            (self.send)(std::mem::take(&mut self.waiting));
        }
    }
}

/// Passes on what arrives, at most once per `pace`, until the sender is gone, `send` says that nobody listens, or
/// another stream took over.
pub fn forward<T>(receiver: &Receiver<T>, pace: Duration, is_current: impl Fn() -> bool, mut send: impl FnMut(Vec<T>) -> bool) {
    let mut due = Instant::now();
    loop {
        let mut batch = match receiver.recv_timeout(LISTENING) {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) if is_current() => continue,
            Err(_) => return,
        };
        while let Ok(next) = receiver.recv_timeout(due.saturating_duration_since(Instant::now())) {
            batch.push(next);
        }
        if !is_current() || !send(batch) {
            return;
        }
        due = Instant::now() + pace;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn token(text: &str) -> WriteEvent {
        WriteEvent::Token { index: 0, text: text.to_owned() }
    }

    #[test]
    fn the_first_token_is_not_held_back_and_later_ones_travel_together() {
        let mut sent = Vec::new();
        let mut tokens = Tokens::new(Duration::from_secs(3600), |batch| sent.push(batch.len()));
        for text in ["Once", " upon", " a", " time"] {
            tokens.push(token(text));
        }
        tokens.flush();
        assert_eq!(sent, [1, 3], "one message for the first token, one for the rest");
    }

    #[test]
    fn a_batch_keeps_the_order_of_tokens_and_the_end() {
        let mut order = Vec::new();
        let mut tokens = Tokens::new(Duration::from_secs(3600), |batch| order.extend(batch));
        tokens.push(token("a"));
        tokens.push(token("b"));
        let started = WriteEvent::Started { generation_id: "gen_1".into(), n: 1, seed: 1, notices: Vec::new() };
        tokens.push(started.clone());
        drop(tokens);
        assert_eq!(order, [token("a"), token("b"), started], "what is not a token takes the waiting tokens along, in order");
    }

    #[test]
    fn a_flood_becomes_few_messages_and_loses_nothing() {
        let (sender, receiver) = mpsc::channel();
        let flood = std::thread::spawn(move || {
            for number in 0..2_000 {
                let _ = sender.send(number);
                if number % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let (mut all, mut messages) = (Vec::new(), 0);
        forward(
            &receiver,
            Duration::from_millis(50),
            || true,
            |batch| {
                messages += 1;
                all.extend(batch);
                true
            },
        );
        drop(flood.join());
        assert_eq!(all, (0..2_000).collect::<Vec<_>>());
        assert!(messages <= 10, "2,000 events in about 100 ms came in {messages} messages");
    }

    #[test]
    fn a_stream_that_was_replaced_ends_without_sending() {
        let (sender, receiver) = mpsc::channel();
        let _ = sender.send(1);
        forward(&receiver, Duration::ZERO, || false, |_| panic!("nobody listens to this stream any more"));
    }
}
