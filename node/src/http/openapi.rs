//! The description of the API, made from the types that it is made of.
//!
//! `docs/openapi.json` is what comes out; a test compares them.

mod gateway;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use utoipa::{OpenApi, PartialSchema};

use super::{
    content,
    errors::{ErrorBody, status_of},
    events::EVENT_STREAM,
    health,
    request::{API_HEADER, CALL_HEADER, UMASK_HEADER},
    router,
};
use crate::api::{self, API_VERSION, ErrorKind, Request};

/// What is described by hand: everything but the operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "casnode",
        description = "The local API of a casnode daemon: on the Unix socket `api.sock` of its data directory, and over TCP \
                       with the token in `api.token`. `docs/API.md` shows how it is used.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        content::put,
        content::get,
        content::get_inside,
        health::healthz,
        health::readyz,
        health::metrics,
        router::list_calls,
        router::follow_call,
        router::cancel_call
    ),
    components(schemas(Request, api::Response, api::Event, ErrorBody)),
    tags(
        (name = "operations", description = "One for each command. The result's fields are those of `--json`."),
        (name = "content", description = "A file's bytes, in and out."),
        (name = "health", description = "Whether the daemon is well; no token is needed."),
        (name = "calls", description = "What runs: follow it, end it."),
        (name = "gateway", description = "Files for browsers and players; on loopback no token is needed.")
    )
)]
struct Description;

/// `GET /v1/openapi.json`
pub(super) async fn get() -> Response {
    static TEXT: LazyLock<Arc<str>> = LazyLock::new(|| text().into());
    let mut response = TEXT.to_string().into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The description, as a person can read it.
fn text() -> String {
    let mut text = serde_json::to_string_pretty(&description()).unwrap_or_default();
    text.push('\n');
    text
}

fn description() -> Value {
    let mut description = serde_json::to_value(Description::openapi()).unwrap_or_default();
    description["info"]["version"] = json!(API_VERSION.to_string());
    // It names the operations, and is no message itself.
    if let Some(schemas) = description["components"]["schemas"].as_object_mut() {
        schemas.remove("Request");
    }
    description["components"]["schemas"]["CallEvent"] = call_event();
    let errors = errors();
    for (status, about) in &errors {
        description["components"]["responses"][status] = json!({
            "description": about,
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/ErrorBody" } } },
        });
    }
    if let Some(paths) = description["paths"].as_object_mut() {
        let paths: &mut Map<String, Value> = paths;
        for (op, about, fields) in operations() {
            let path = format!("/v1/{op}");
            paths.insert(path, json!({ "post": operation(&op, &about, fields) }));
        }
        let operations = paths.values_mut().filter_map(Value::as_object_mut);
        for operation in operations.flat_map(|methods| methods.values_mut()) {
            complete(operation, errors.keys());
        }
        paths.extend(gateway::paths().map(|(path, item)| (path.to_owned(), item)));
    }
    without_links(&mut description);
    description
}

/// The operations that write out bytes where their request says so, and the one that always does.
const WRITING: [&str; 3] = ["cat", "get", "get_tree"];
const WRITING_ALONE: &str = "cat";

/// Name, description and fields of each operation, as the variants of [`Request`] have them.
fn operations() -> Vec<(String, String, Value)> {
    let requests = serde_json::to_value(Request::schema()).unwrap_or_default();
    let variants = requests["oneOf"].as_array().cloned().unwrap_or_default();
    let variants = variants.into_iter().filter_map(|variant| {
        let about = variant["description"].as_str().unwrap_or_default();
        let (op, fields) = match variant["enum"][0].as_str() {
            Some(op) => {
                let nothing = json!({"type": "object", "additionalProperties": false});
                (op.to_owned(), nothing)
            }
            None => {
                let (op, fields) = variant["properties"].as_object()?.iter().next()?;
                (op.clone(), fields.clone())
            }
        };
        Some((op, about.to_owned(), fields))
    });
    variants.collect()
}

/// The results of an operation: of most the one with its own name.
fn results(op: &str) -> Vec<&str> {
    match op {
        "pin_add" | "pin_rm" => vec!["pin"],
        "pin_ls" | "ls_all" => vec!["ls"],
        "get" => vec!["get", "directory"],
        "get_tree" => vec!["get_tree", "get"],
        "gc" => vec!["gc", "gc_plan"],
        "provide_status" => vec!["provide_status", "provide_file"],
        own => vec![own],
    }
}

fn operation(op: &str, about: &str, mut fields: Value) -> Value {
    fields["additionalProperties"] = json!(false);
    let results = results(op).join("` or `");
    let mut answers = json!({});
    if op != WRITING_ALONE {
        let response = json!({ "$ref": "#/components/schemas/Response" });
        answers["application/json"] = json!({ "schema": response });
        answers[EVENT_STREAM] = events();
    }
    if WRITING.contains(&op) {
        answers["application/octet-stream"] = json!({ "schema": { "type": "string" } });
    }
    json!({
        "tags": ["operations"],
        "operationId": op,
        "summary": about,
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": fields } },
        },
        "responses": {
            "200": {
                "description": format!("Its `result` is `{results}`."),
                "content": answers,
            },
        },
    })
}

/// What every route has in common: headers, errors, and that calls can be heard as events.
fn complete<'a>(operation: &mut Value, errors: impl Iterator<Item = &'a String>) {
    let makes_call = operation["tags"][0] == "operations" || operation["tags"][0] == "content";
    let mut headers = vec![header_parameter(
        API_HEADER.as_str(),
        "The version of the API that the client speaks; another one is refused.",
        json!({"type": "integer", "enum": [API_VERSION]}),
    )];
    if makes_call {
        headers.push(header_parameter(
            CALL_HEADER.as_str(),
            "Names the call, so that it can be followed and ended.",
            json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}),
        ));
        headers.push(header_parameter(
            UMASK_HEADER.as_str(),
            "The caller's umask, in octal: what is written gets the permissions that it leaves.",
            json!({"type": "string", "pattern": "^[0-7]{1,3}$"}),
        ));
    }
    if operation["parameters"].is_null() {
        operation["parameters"] = json!([]);
    }
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.append(&mut headers);
    }
    let operation_id = operation["operationId"].clone();
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    if (operation_id == "put_content" || operation_id == "follow_call")
        && let Some(content) = responses["200"]["content"].as_object_mut()
    {
        content.insert(EVENT_STREAM.to_owned(), events());
    }
    for status in errors {
        let error = json!({ "$ref": format!("#/components/responses/{status}") });
        responses.entry(status).or_insert(error);
    }
}

/// An answer that is server-sent events. The schema is that of each event, as OpenAPI 3.1 has no word for a stream of them.
fn events() -> Value {
    json!({ "schema": { "$ref": "#/components/schemas/CallEvent" } })
}

/// The events of a call by name, with what their data is and what they mean.
const EVENTS: [(&str, &str, &str); 4] = [
    ("progress", "Event", "How far it is; any number of times."),
    (
        "warning",
        "Event",
        "Something the person should know although the call goes on.",
    ),
    ("result", "Response", "It went well; the last event."),
    ("error", "ErrorBody", "It failed; the last event."),
];

/// One server-sent event of a call: its name, and its data, which is JSON in one line.
fn call_event() -> Value {
    let events = EVENTS.map(|(name, data, about)| {
        json!({
            "type": "object",
            "description": about,
            "required": ["event", "data"],
            "properties": {
                "event": { "type": "string", "enum": [name] },
                "data": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": { "$ref": format!("#/components/schemas/{data}") },
                },
            },
        })
    });
    json!({
        "description": "One server-sent event of a call: any number of `progress` and `warning`, and one last `result` or `error`.",
        "oneOf": events,
    })
}

fn header_parameter(name: &str, about: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "header", "required": false, "description": about, "schema": schema })
}

/// Every status of an error, with the kinds that it is told for.
fn errors() -> BTreeMap<String, String> {
    const KINDS: [ErrorKind; 9] = [
        ErrorKind::Failure,
        ErrorKind::Usage,
        ErrorKind::NotFound,
        ErrorKind::TimedOut,
        ErrorKind::Integrity,
        ErrorKind::NoSpace,
        ErrorKind::Partial,
        ErrorKind::Busy,
        ErrorKind::Interrupted,
    ];
    let of_http = [
        (
            StatusCode::UNAUTHORIZED,
            "Over TCP: the token is missing or wrong.",
        ),
        (
            StatusCode::FORBIDDEN,
            "Over TCP: Host or Origin is not this machine's.",
        ),
        (StatusCode::METHOD_NOT_ALLOWED, "Another method is meant."),
        (
            StatusCode::REQUEST_TIMEOUT,
            "The body did not arrive in time.",
        ),
        (StatusCode::PAYLOAD_TOO_LARGE, "The body is too long."),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not JSON."),
    ];
    let mut errors: BTreeMap<_, _> = of_http
        .map(|(status, about)| (status.as_str().to_owned(), about.to_owned()))
        .into();
    for kind in KINDS {
        let name = serde_json::to_value(kind).unwrap_or_default();
        let about = format!(
            "The error's kind is `{}`.",
            name.as_str().unwrap_or_default()
        );
        let status = status_of(kind).as_str().to_owned();
        let known = errors.entry(status).or_default();
        let space = if known.is_empty() { "" } else { " " };
        *known = format!("{known}{space}{about}");
    }
    errors
}

/// What comments say to those who read the code: links between its parts are none here.
fn without_links(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace("[`", "`").replace("`]", "`"),
        Value::Array(values) => values.iter_mut().for_each(without_links),
        Value::Object(fields) => fields.values_mut().for_each(without_links),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Set, the test writes the file instead of comparing it.
    const REWRITE: &str = "CASNODE_REWRITE_OPENAPI";

    #[test]
    fn the_file_is_the_description() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let text = text();
        if std::env::var_os(REWRITE).is_some() {
            fs::write(&file, &text).unwrap();
        }
        let pinned = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            pinned == text,
            "docs/openapi.json is not what the code says: `{REWRITE}=1 cargo test -p casnode-node openapi` writes it"
        );
    }

    #[test]
    fn every_operation_is_in_it_and_says_what_it_answers() {
        let description = description();
        let results = serde_json::to_string(&description["components"]["schemas"]["Response"]);
        let results = results.unwrap();
        let operations = operations();
        assert!(operations.len() > 20, "{}", operations.len());
        for (op, about, _) in operations {
            let post = &description["paths"][format!("/v1/{op}")]["post"];
            let summary = post["summary"].as_str().unwrap();
            assert_eq!(summary, about.replace("[`", "`").replace("`]", "`"), "{op}");
            assert!(!about.is_empty(), "{op}");
            for result in super::results(&op) {
                assert!(results.contains(&format!("\"{result}\"")), "{op}: {result}");
            }
            let parsed = Request::from_call(&op, b"5").unwrap_err();
            let known = matches!(parsed, crate::api::call::CallError::Malformed { .. });
            assert!(known, "{op}: {parsed}");
        }
    }

    #[test]
    fn every_stream_of_events_is_described_to_its_end() {
        let description = description();
        let paths = description["paths"].as_object().unwrap();
        let answers = paths
            .values()
            .flat_map(|path| path.as_object().unwrap().values());
        let streams: Vec<_> = answers
            .map(|operation| &operation["responses"]["200"]["content"][EVENT_STREAM])
            .filter(|stream| !stream.is_null())
            .collect();
        assert!(streams.len() > 20, "{}", streams.len());
        for stream in streams {
            assert_eq!(stream["schema"]["$ref"], "#/components/schemas/CallEvent");
        }
        let named = description["components"]["schemas"]["CallEvent"]["oneOf"]
            .as_array()
            .unwrap();
        let named: Vec<_> = named
            .iter()
            .map(|event| &event["properties"]["event"]["enum"][0])
            .collect();
        assert_eq!(named, ["progress", "warning", "result", "error"]);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let description = description();
        let text = description.to_string();
        let mut references = 0;
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            let schema = &description["components"]["schemas"][name];
            assert!(!schema.is_null(), "{name}");
            references += 1;
        }
        assert!(references > 50, "{references}");
    }
}
