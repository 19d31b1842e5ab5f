//! Links: printed where a file is, and taken where it is wanted.

use crate::content::{CHUNK, Sample, of_length};
use crate::harness::{Home, Node, folder};
use crate::hostile::{Hostile, Manner};
use crate::hostile_peers::odd;
use crate::proxy::Proxy;

/// The link that a daemon prints of a file it has stored.
fn stored_link(node: &Node, sample: &Sample) -> String {
    let run = node.call(["store", "--link"]).arg(&sample.path).run().ok();
    run.text().trim().to_owned()
}

#[test]
fn a_link_alone_brings_the_file_under_its_name() {
    let a = Node::start(&[]);
    let sample = Sample::new(700, 3 * CHUNK + 5);
    let link = stored_link(&a, &sample);
    let size = sample.bytes.len();
    let begins = format!(
        "casnode:{}?n=sample.bin&s={size}&p=/ip4/127.0.0.1/",
        sample.address
    );
    assert!(link.starts_with(&begins), "{link}");
    assert!(link.contains(&a.peer_id), "{link}");
    let again = a.call(["link", &sample.address]).run().ok().text();
    assert_eq!(again.trim(), link);
    let json = a.call(["link", "--json", &link]).run().ok().json();
    assert_eq!(
        (&json["address"], &json["link"]),
        (&sample.address.clone().into(), &link.clone().into())
    );

    // Nobody told this node of a peer but the link, and its name is another one.
    let named = link.replace("n=sample.bin", "n=another%20name.bin");
    let (home, out) = (Home::new(), folder());
    let get = home.networked(["get", &named], &[]).current_dir(out.path());
    get.run().ok();
    assert_eq!(
        std::fs::read(out.path().join("another name.bin")).unwrap(),
        sample.bytes
    );
    // -o goes before the name.
    let get = home.networked(["get", &named], &[]).arg("-o");
    get.arg(sample.copy_path()).run().ok();
    sample.assert_at(&sample.copy_path());
    // The other commands take its address.
    let stat = home.call(["stat", "--json", &link]).run().ok().json();
    assert_eq!(stat["bytes"], size);
}

#[test]
fn a_size_that_is_wrong_is_refused() {
    let a = Node::start(&[]);
    let sample = Sample::new(701, 2 * CHUNK);
    let link = stored_link(&a, &sample);
    let size = sample.bytes.len();
    let wrong = link.replace(&format!("s={size}"), "s=5");
    let home = Home::new();
    let get = |link: &str| {
        let call = home.networked(["get", link], &[]).arg("-o");
        call.arg(sample.copy_path()).run()
    };
    let run = get(&wrong).exits(12);
    run.says("by its link or directory it has 5 bytes")
        .says(&format!("has {size}"));
    assert!(!sample.copy_path().exists());
    get(&link).ok();
    get(&wrong).exits(12).says("it has 5 bytes");
    sample.assert_at(&sample.copy_path());
}

/// The proof tree of a file says how long it is but for its last group.
#[test]
fn a_liar_about_the_length_does_not_make_a_right_link_fail() {
    let a = Node::start(&[]);
    let sample = Sample::new(703, 4 * CHUNK);
    let link = stored_link(&a, &sample);
    let mut script = odd(&sample, Manner::Proper);
    script.manifest = of_length(&script.manifest, sample.bytes.len() as u32 - 1000);
    let liar = Hostile::start(script, &[]);
    // The liar is there at once, the honest one after a while.
    let honest = Proxy::start(&a, 1 << 20);
    let bare = link.split_once("&p=").unwrap().0.to_owned();
    let home = Home::new();
    let get = home.networked(["get", &bare, "--peer", &liar.addr], &[]);
    let get = get.args(["--peer", &honest.addr]).arg("-o");
    get.arg(sample.copy_path()).run().ok();
    sample.assert_at(&sample.copy_path());
}

#[test]
fn what_can_have_no_room_is_13_before_anybody_is_asked() {
    let (home, sample) = (Home::new(), Sample::new(702, 1));
    let link = format!("casnode:{}?s={}", sample.address, 1_u64 << 40);
    let get = home
        .networked(["get", "--copy", "--max-store", "64MiB", &link], &[])
        .arg("-o");
    let run = get.arg(sample.copy_path()).run().exits(13);
    run.says("1099511627776 bytes needed").says("--max-store");
}

#[test]
fn what_is_no_link_is_wrong_usage() {
    let home = Home::new();
    let hex = "ab".repeat(32);
    for (link, why) in [
        ("casnode:abc".to_owned(), "found 3 characters"),
        (format!("casnode:{hex}?n=..%2Fx"), "n= is no name"),
        (format!("casnode:{hex}?s=many"), "s= is no number"),
        (format!("casnode:{hex}?p=localhost"), "p= is no multiaddr"),
        (
            format!("casnode:{hex}?x={}", "y".repeat(5000)),
            "4096 at most",
        ),
    ] {
        for command in ["get", "stat", "cat"] {
            home.call([command, &link]).run().exits(2).says(why);
        }
    }
}

#[test]
fn a_code_is_drawn_on_terminals_alone() {
    let home = Home::new();
    let hex = "ab".repeat(32);
    let run = home.call(["link", "--qr", &hex]).run().exits(2);
    run.says("standard output is no terminal")
        .says("leave --qr out");
    home.call(["link", &hex])
        .run()
        .exits(10)
        .says("is not here");
}
