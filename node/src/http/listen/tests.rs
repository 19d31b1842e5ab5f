use super::*;
use crate::{api::Request, client::daemon, config::NodeConfig, http, node::Node};

/// Fails twice, as a process without free descriptors does, and then has a caller.
struct Exhausted {
    failures: u32,
    caller: Option<UnixStream>,
}

impl Accept for Exhausted {
    type Stream = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(rustix::io::Errno::MFILE.into());
        }
        match self.caller.take() {
            Some(caller) => Ok((caller, None)),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn callers_are_served_after_some_that_could_not_be_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        data_dir: dir.path().to_owned(),
        network: None,
        serve_dht: false,
        ..NodeConfig::default()
    };
    let node = Node::start(config).await.unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let listener = Exhausted {
        failures: 2,
        caller: Some(there),
    };
    let api = node.tasks.child();
    let router = http::on_socket(&http::calls::Calls::new(node.clone(), api.clone()));
    api.spawn("api", serve(listener, router, 1, api.clone()));
    let outcome = daemon::call_over(here, Request::Ls, None, &mut |_| {}).await;
    let files = Vec::new();
    assert_eq!(outcome.unwrap(), Ok(crate::api::Response::Ls { files }));
    node.shutdown().await;
}
