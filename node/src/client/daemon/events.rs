//! The events of a call, as the daemon sends them.

use std::io;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::CallError;
use crate::{
    api::{Event, Outcome},
    http::errors::ErrorBody,
};

/// Longest event: a list of millions of files fits.
const MAX_EVENT_BYTES: usize = 2 << 30;

/// Reads events until the last one.
pub(super) async fn read(
    body: Incoming,
    on_event: &mut (dyn FnMut(Event) + Send),
) -> Result<Outcome, CallError> {
    let mut body = body;
    let mut texts = Texts::default();
    loop {
        while let Some(text) = texts.next() {
            match parse(&text)? {
                Told::Nothing => {}
                Told::Event(event) => on_event(event),
                Told::End(outcome) => return Ok(*outcome),
            }
        }
        match body.frame().await {
            Some(frame) => texts.add(frame?.into_data().unwrap_or_default())?,
            None => return Err(closed().into()),
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")
}

/// Bytes on their way to be events: each ends with an empty line.
#[derive(Default)]
struct Texts {
    bytes: BytesMut,
    /// No event ends before this.
    searched: usize,
}

impl Texts {
    fn add(&mut self, bytes: Bytes) -> io::Result<()> {
        if self.bytes.len() + bytes.len() > MAX_EVENT_BYTES {
            return Err(malformed("an event is too long"));
        }
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn next(&mut self) -> Option<Bytes> {
        let begin = self.searched.saturating_sub(1);
        let mut pairs = self.bytes[begin..].windows(2);
        let Some(at) = pairs.position(|pair| pair == b"\n\n") else {
            self.searched = self.bytes.len();
            return None;
        };
        self.searched = 0;
        Some(self.bytes.split_to(begin + at + 2).freeze())
    }
}

/// What an event says.
enum Told {
    Nothing,
    Event(Event),
    End(Box<Outcome>),
}

fn parse(text: &[u8]) -> io::Result<Told> {
    let (mut name, mut data) = (&b""[..], &b""[..]);
    for line in text.split(|byte| *byte == b'\n') {
        if let Some(value) = line.strip_prefix(b"event: ") {
            name = value;
        } else if let Some(value) = line.strip_prefix(b"data: ") {
            data = value;
        }
    }
    let told = match name {
        b"" => return Ok(Told::Nothing),
        b"progress" | b"warning" => serde_json::from_slice(data).map(Told::Event),
        b"result" => serde_json::from_slice(data).map(|won| Told::End(Box::new(Ok(won)))),
        b"error" => {
            serde_json::from_slice(data).map(|ErrorBody { error }| Told::End(Box::new(Err(error))))
        }
        _ => return Err(malformed("there is no event of this name")),
    };
    told.map_err(|error| malformed(&error.to_string()))
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("an event is not what was expected: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_are_cut() {
        let sent = b"event: a\ndata: 1\n\n:\n\nevent: b\ndata: 22\n\nrest";
        for cut in 1..sent.len() {
            let mut texts = Texts::default();
            let mut found = Vec::new();
            for piece in sent.chunks(cut) {
                texts.add(Bytes::copy_from_slice(piece)).unwrap();
                found.extend(std::iter::from_fn(|| texts.next()));
            }
            let expected = ["event: a\ndata: 1\n\n", ":\n\n", "event: b\ndata: 22\n\n"];
            assert_eq!(found, expected, "{cut}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for text in [
            "event: fly\ndata: {}\n\n",
            "event: result\ndata: {}\n\n",
            "event: progress\n\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(matches!(parse(b":\n\n"), Ok(Told::Nothing)));
    }
}
