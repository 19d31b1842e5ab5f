//! A daemon that is handed its sockets by whoever started it, as a service manager does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Home, casnode, copy_env, signal, wait_until};

/// A daemon that is handed these sockets, from descriptor 3 on, under these names.
fn daemon(home: &Home, sockets: Vec<OwnedFd>, names: Option<&str>, options: &[&str]) -> Child {
    let words = [
        "daemon",
        "--json",
        "--no-mdns",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
    ];
    let call = home.call(words).args(options);
    // The shell has the process id that its last command gets. A descriptor that is inherited comes as standard input and
    // output, and gets its number here.
    let count = sockets.len();
    let variables = format!("LISTEN_FDS={count} LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; ");
    let moves = match count {
        0 => "",
        1 => "exec 3<&0 </dev/null; ",
        _ => "exec 3<&0 4<&1 </dev/null >&2; ",
    };
    let script = format!("{moves}{variables}exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .arg(call.command.get_program());
    command.args(call.command.get_args());
    copy_env(&call.command, &mut command);
    if let Some(names) = names {
        command.env("LISTEN_FDNAMES", names);
    }
    let mut sockets = sockets.into_iter();
    if let Some(first) = sockets.next() {
        command.stdin(Stdio::from(first));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(second) = sockets.next() {
        command.stdout(Stdio::from(second));
    }
    command.spawn().unwrap()
}

/// What a daemon says that could not use its sockets.
fn refused(home: &Home, sockets: Vec<OwnedFd>, names: Option<&str>, options: &[&str]) -> String {
    let mut daemon = Daemon(daemon(home, sockets, names, options));
    wait_until("the daemon to refuse its sockets", || {
        daemon.0.try_wait().unwrap().is_some()
    });
    let mut said = String::new();
    let mut stderr = daemon.0.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(!daemon.0.wait().unwrap().success(), "{said}");
    said
}

/// Killed when the test fails.
struct Daemon(Child);

impl Daemon {
    fn leaves(mut self) {
        signal(&self.0, Signal::TERM);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_takes_both_sockets_and_leaves_them_to_their_owner() {
    let home = Home::new();
    let socket = home.path().join("api.sock");
    let unix = UnixListener::bind(&socket).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap();
    // Who calls before it runs is heard when it does.
    let mut early = TcpStream::connect(at).unwrap();
    early
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let kept = (unix.try_clone().unwrap(), tcp.try_clone().unwrap());
    let sockets = vec![OwnedFd::from(unix), OwnedFd::from(tcp)];
    let daemon = Daemon(daemon(&home, sockets, Some("api:http"), &[]));
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let status = home.call(["status", "--json"]).run().ok().json();
    assert_eq!(
        (&status["daemon"], &status["http"]),
        (&true.into(), &at.to_string().into())
    );
    assert_eq!(status["pid"], daemon.0.id());
    daemon.leaves();
    // They are still the other's: the file is there, and who connects waits.
    assert!(socket.exists());
    TcpStream::connect(at).unwrap();
    drop(kept);
}

#[test]
fn one_socket_without_a_name_is_what_it_can_be() {
    let home = Home::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap().to_string();
    let mut daemon = Daemon(daemon(&home, vec![tcp.into()], None, &[]));
    let mut ready = String::new();
    BufReader::new(daemon.0.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["http"], at);
    wait_until("its own socket", || home.path().join("api.sock").exists());
    daemon.leaves();
    assert!(
        !home.path().join("api.sock").exists(),
        "its own goes with it"
    );
}

#[test]
fn what_cannot_be_used_is_told() {
    let home = Home::new();
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let says =
        |said: String, words: &str| assert!(said.contains(words), "{words:?} is not in: {said}");
    says(
        refused(&home, vec![tcp()], Some("web"), &[]),
        "\"web\" is no name of a socket here",
    );
    says(
        refused(&home, vec![tcp()], Some("api"), &[]),
        "not a valid unix stream socket",
    );
    says(
        refused(&home, vec![tcp(), tcp()], None, &[]),
        "there is a port of the API already",
    );
    says(
        refused(&home, vec![tcp()], Some("http:api"), &[]),
        "1 were passed with 2 names",
    );
    says(
        refused(&home, vec![tcp()], None, &["--http", "off"]),
        "--http is off",
    );
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    says(
        refused(&home, vec![datagram.into()], None, &[]),
        "neither a Unix stream socket nor one of TCP",
    );
    let elsewhere = home.path().join("elsewhere.sock");
    let unix = UnixListener::bind(&elsewhere).unwrap();
    says(
        refused(&home, vec![unix.into()], None, &[]),
        "calls look for",
    );
    let three = casnode(["daemon"]).by(
        "sh",
        &["-c", "LISTEN_FDS=3 LISTEN_PID=$$ exec \"$0\" \"$@\""],
    );
    three
        .run()
        .exits(2)
        .says("3 were passed, and there is use for 2");
}
