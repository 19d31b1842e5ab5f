//! Directories that do not come at once, or not from one peer.

use super::*;
use crate::harness::wait_until;

#[test]
fn a_get_that_is_killed_goes_on() {
    let slow = [
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--max-up",
        "1MiB/s",
        "--limit-local",
        "on",
    ];
    let (provider, dir) = (Node::start_as(Home::new(), &[], &slow), folder());
    let source = dir.path().join("source");
    for n in 0..150_u64 {
        write(&source, &format!("{}/{n}", n % 10), random(n, 40_000));
    }
    let address = address_of(&store(&provider, &source));
    let (home, out) = (Home::new(), dir.path().join("out"));
    let running = get(&home, &provider, &address, &out).spawn();
    let whole = || {
        let there = contents_if_any(&out).into_iter();
        let files = there.filter(|(path, _)| !path.contains(".casnode-"));
        files
            .filter(|(_, there)| matches!(there, There::File(..)))
            .count()
    };
    wait_until("some files", || whole() >= 20);
    drop(running); // killed
    let before = whole();
    assert!(before < 150, "it was too fast to be killed in the middle");
    provider.call(["limits", "--up", "none"]).run().ok();
    let made = get(&home, &provider, &address, &out).run().ok().json();
    assert!(made["here"].as_u64().unwrap() >= before as u64, "{made}");
    assert_eq!(
        made["here"].as_u64().unwrap() + made["fetched"].as_u64().unwrap(),
        150
    );
    assert_same(&source, &out);
}

#[test]
fn of_what_is_not_kept_the_listing_does_not_stay_either() {
    let (provider, dir) = (Node::start(&[]), folder());
    let source = dir.path().join("source");
    write(&source, "small", "1");
    write(&source, "large", random(79, 700_000));
    let address = address_of(&store(&provider, &source));
    let node = Node::start(&[&provider.addr]);
    for (inside, code) in [("", 0), ("/small", 0), ("/large", 0), ("/no such", 10)] {
        let place = format!("{address}{inside}");
        let out = dir.path().join(format!("out{}", inside.replace('/', "-")));
        let call = node.call(["get", "--no-keep", &place, "-o"]).arg(out);
        call.run().exits(code);
        let all = node.call(["ls", "--all"]).run().ok().text();
        assert!(all.is_empty(), "{place}: {all}");
        let status = node.status();
        let keys = [&status["announced"], &status["to_announce"]];
        assert_eq!(keys, [&Value::from(0), &Value::from(0)], "{place}");
    }
}

fn contents_if_any(root: &Path) -> BTreeMap<String, There> {
    match root.is_dir() {
        true => std::panic::catch_unwind(|| contents(root)).unwrap_or_default(),
        false => BTreeMap::new(),
    }
}

#[test]
fn what_a_provider_lacks_comes_from_others_or_is_named() {
    let (first, dir) = (Node::start(&[]), folder());
    let source = dir.path().join("source");
    for n in 0..20_u64 {
        write(&source, &format!("a/{n}"), random(n, 3_000));
        write(&source, &format!("b/{n}"), random(100 + n, 3_000));
    }
    write(&source, "b/large", random(9, 200_000));
    write(&source, "c", "nobody has it");
    let address = address_of(&store(&first, &source));
    let part = Node::start(&[&first.addr]);
    let out = dir.path().join("part");
    let call = part
        .call(["get", &address, "--include", "a", "-o"])
        .arg(&out);
    call.run().ok();
    // Another one has the rest by itself, and knows of no directory.
    let other = Node::start(&[&part.addr]);
    let rest = fs::read_dir(source.join("b")).unwrap();
    let call = other
        .call(["store"])
        .args(rest.map(|entry| entry.unwrap().path()));
    call.run().ok();
    drop(first);
    wait_until("the two to meet", || part.status()["peers"] == 1);

    let (home, out) = (Home::new(), dir.path().join("out"));
    let call = home.networked(["get", "--json", "--timeout", "30s"], &[&part.addr]);
    let run = call.arg(&address).arg("-o").arg(&out).run();
    let made = run.exits(15).says("not written: c: ").json();
    assert_eq!((&made["failed"], &made["missing"]), (&1.into(), &1.into()));
    assert_eq!(made["fetched"], 41, "{made}");
    fs::remove_file(source.join("c")).unwrap();
    assert_same(&source, &out);
}
