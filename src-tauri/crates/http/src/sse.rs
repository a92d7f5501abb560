//! Reading server-sent events (WHATWG HTML, section 9.2.6), as they arrive in pieces.

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// `message` when the server names none.
    pub event: String,
    pub data: String,
    /// The id of this event, if it carries one.
    pub id: Option<String>,
}

/// Turns bytes into events; comments (heartbeats) are skipped.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    event: String,
    data: Option<String>,
    id: Option<String>,
}

impl Parser {
    /// Takes the next bytes and returns the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut complete = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    complete.extend(self.take_line(String::from_utf8_lossy(&line).trim_end_matches('\r')));
                }
                _ => self.line.push(byte),
            }
        }
        complete
    }

    fn take_line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let (event, id) = (std::mem::take(&mut self.event), self.id.take());
            let data = self.data.take()?;
            return Some(Message { event: if event.is_empty() { "message".to_owned() } else { event }, data, id });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.to_owned(),
            "id" => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whole_however_they_are_cut() {
        let text = ": heartbeat\n\nid: 7\nevent: token\ndata: {\"text\":\"é\"}\n\ndata: one\r\ndata:two\r\n\r\n";
        let wanted = vec![
            Message { event: "token".into(), data: "{\"text\":\"é\"}".into(), id: Some("7".into()) },
            Message { event: "message".into(), data: "one\ntwo".into(), id: None },
        ];
        for size in 1..=text.len() {
            let mut parser = Parser::default();
            let found: Vec<_> = text.as_bytes().chunks(size).flat_map(|piece| parser.feed(piece)).collect();
            assert_eq!(found, wanted, "in pieces of {size} bytes");
        }
    }
}
