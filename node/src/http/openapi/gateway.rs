//! The gateway, described by hand: it answers browsers, not clients of the API.

use serde_json::{Map, Value, json};

/// The answers that are errors, with what they are for.
const ERRORS: [(&str, &str); 14] = [
    ("400", "The path or the query leads nowhere."),
    ("401", "Beyond loopback: the token is missing or wrong."),
    (
        "403",
        "Another site asks, or Host or Origin is not this machine's.",
    ),
    ("404", "Nobody has it, or it is not in the directory."),
    ("405", "Another method is meant."),
    ("408", "The request did not arrive in time."),
    ("409", "It is in use."),
    ("412", "It is not the one that is meant."),
    ("416", "The file has no such range."),
    ("422", "It failed here."),
    ("502", "Only wrong bytes are to be had."),
    ("503", "There is no place just now."),
    ("504", "It did not come in time."),
    ("507", "There is no room for it."),
];

/// The paths of the gateway.
pub(super) fn paths() -> [(&'static str, Value); 2] {
    let address = parameter("address", "path", "64 hex digits.");
    let path = parameter(
        "path",
        "path",
        "Where in the directory; its slashes stay as they are.",
    );
    [
        (
            "/b3/{address}",
            get(
                "gateway",
                "A file, for browsers and players.",
                vec![address.clone()],
            ),
        ),
        (
            "/b3/{address}/{path}",
            get(
                "gateway_inside",
                "A file or a folder in a directory, for browsers and players.",
                vec![address, path],
            ),
        ),
    ]
}

fn get(id: &str, about: &str, mut parameters: Vec<Value>) -> Value {
    parameters.extend([
        parameter("filename", "query", "The name that says what it is."),
        parameter("download", "query", "To be saved, not shown."),
        parameter("Range", "header", "One range of bytes."),
        parameter(
            "If-None-Match",
            "header",
            "The entity tags that are there already.",
        ),
    ]);
    let mut responses = Map::new();
    let any = json!({ "*/*": { "schema": { "type": "string" } } });
    responses.insert(
        "200".to_owned(),
        json!({ "description": "All of it, or a page.", "content": any }),
    );
    responses.insert(
        "206".to_owned(),
        json!({ "description": "The range.", "content": any }),
    );
    responses.insert("302".to_owned(), json!({ "description": "It is there." }));
    responses.insert(
        "304".to_owned(),
        json!({ "description": "It is there already." }),
    );
    for (status, about) in ERRORS {
        let text = json!({ "schema": { "type": "string" } });
        let content = json!({
            "text/html": text,
            "text/plain": text,
            "application/json": { "schema": { "$ref": "#/components/schemas/ErrorBody" } },
        });
        responses.insert(
            status.to_owned(),
            json!({ "description": about, "content": content }),
        );
    }
    json!({
        "get": {
            "tags": ["gateway"],
            "operationId": id,
            "summary": about,
            "parameters": parameters,
            "responses": responses,
        },
    })
}

fn parameter(name: &str, place: &str, about: &str) -> Value {
    json!({
        "name": name,
        "in": place,
        "required": place == "path",
        "description": about,
        "schema": { "type": "string" },
    })
}
