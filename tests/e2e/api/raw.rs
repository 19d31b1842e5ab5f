//! HTTP by hand: what is sent is what is written here, also where it is wrong.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{LIMIT, Node};

/// A connection, whatever it goes over.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection to a daemon's API.
pub(crate) struct Connection(BufReader<Box<dyn Stream>>);

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}\n{text}", self.head))
    }

    /// Fails the test unless it is an error of this status and kind, told in all its parts.
    #[track_caller]
    pub(crate) fn is_error(&self, status: u16, kind: &str) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        let error = self.json()["error"].clone();
        assert_eq!(error["kind"], kind, "{error}");
        for part in ["what", "why", "next"] {
            assert!(error[part].is_string(), "{error}");
        }
        error
    }

    /// The events, by name, with their data.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<(String, Value)> {
        let text = std::str::from_utf8(&self.body).unwrap();
        let events = text.split_terminator("\n\n");
        let parse = |event: &str| {
            let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
            Some((name.to_owned(), serde_json::from_str(data).unwrap()))
        };
        events.filter_map(parse).collect()
    }
}

impl Connection {
    /// To the socket.
    pub(crate) fn open(node: &Node) -> Self {
        let stream = UnixStream::connect(node.data_dir().join("api.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    /// Over TCP.
    pub(crate) fn tcp(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(10)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// A chunk of a chunked body.
    pub(crate) fn send_chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        self.send(bytes)?;
        self.send(b"\r\n")
    }

    /// The next bytes of a body that is not chunked.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(bytes)
    }

    /// The head of the answer.
    pub(crate) fn head(&mut self) -> io::Result<(u16, String)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status == 100 {
            return self.head();
        }
        Ok((status, head.to_ascii_lowercase()))
    }

    /// The next piece of a chunked body; `None` at its end. An error where it breaks off.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut length = String::new();
        if self.0.read_line(&mut length)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok((length > 0).then_some(bytes))
    }

    /// The whole answer.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let (status, head) = self.head()?;
        let mut body = Vec::new();
        if head.contains("transfer-encoding: chunked") {
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
        } else {
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
            body.resize(length.unwrap_or(0), 0);
            self.0.read_exact(&mut body)?;
        }
        Ok(Answer { status, head, body })
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request).unwrap();
        self.answer().unwrap()
    }
}

/// A request with these headers, and a body where there is one.
pub(crate) fn request(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    [text.as_bytes(), body].concat()
}

pub(crate) const JSON: &str = "Content-Type: application/json";

/// Calls an operation on the socket.
#[track_caller]
pub(crate) fn call(node: &Node, op: &str, fields: &str) -> Answer {
    let line = format!("POST /v1/{op}");
    Connection::open(node).ask(&request(&line, &[JSON], fields.as_bytes()))
}

/// Reads something on the socket.
#[track_caller]
pub(crate) fn get(node: &Node, path: &str) -> Answer {
    Connection::open(node).ask(&request(&format!("GET {path}"), &[], b""))
}
