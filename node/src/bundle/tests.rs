use super::*;

fn file(address: &str, path: &str) -> ListedFile {
    ListedFile {
        address: address.to_owned(),
        path: path.to_owned(),
    }
}

#[test]
fn a_list_names_each_place_once_and_only_places_in_the_folder() {
    let address = Address::of(b"a").to_string();
    let good = [file(&address, "a"), file(&address, "./b/c")];
    let good = lines(&good).unwrap();
    assert_eq!(good[1].path, "b/c");
    for bad in [
        [file(&address, "a"), file(&address, "./a")],
        [file(&address, "a"), file(&address, "../b")],
        [file("12", "a"), file(&address, "b")],
    ] {
        assert_eq!(lines(&bad).unwrap_err().kind, ErrorKind::Usage);
    }
    let many: Vec<_> = (0..=MAX_LISTED_FILES)
        .map(|n| file(&address, &n.to_string()))
        .collect();
    assert!(lines(&many).is_err());
    assert!(lines(&many[1..]).is_ok());
}
