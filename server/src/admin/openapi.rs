//! The description of the management API, made from the very types it speaks.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::api::{Answer, ApiError, Request};

/// The OpenAPI 3.1 document: one `POST` per operation, described by the request's own documentation.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let request = generator.subschema_for::<Request>();
    let answer = generator.subschema_for::<Answer>();
    let error = generator.subschema_for::<ApiError>();
    let mut schemas = generator.take_definitions(true);
    let request = request.as_value().pointer("/$ref").and_then(Value::as_str).unwrap_or_default();
    let name = request.rsplit('/').next().unwrap_or_default();
    let variants = schemas.remove(name).and_then(|schema| schema.get("oneOf").cloned()).unwrap_or_default();
    let mut paths = Map::new();
    for variant in variants.as_array().into_iter().flatten() {
        let Some(operation) = variant.pointer("/properties/operation/const").and_then(Value::as_str) else { continue };
        let parameters = variant.pointer("/properties/parameters").cloned().unwrap_or_else(|| json!({}));
        let summary = variant.get("description").cloned().unwrap_or_default();
        let content = |schema: &Value| json!({ "application/json": { "schema": schema } });
        paths.insert(
            format!("/v1/{operation}"),
            json!({ "post": {
                "operationId": operation,
                "summary": summary,
                "requestBody": { "required": true, "content": content(&parameters) },
                "responses": {
                    "200": { "description": "done", "content": content(answer.as_value()) },
                    "default": { "description": "refused; nothing has changed", "content": content(error.as_value()) },
                },
            }}),
        );
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lunette management",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP and JSON on the server's Unix socket. Who may open the socket may do everything.",
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_described() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() > 35, "{} operations", paths.len());
        for (path, item) in paths {
            let summary = item["post"]["summary"].as_str().unwrap_or_default();
            assert!(!summary.is_empty(), "{path} has no summary");
        }
        let body = "/post/requestBody/content/application~1json/schema";
        assert!(paths["/v1/create-lu"].pointer(body).unwrap()["properties"]["file"].is_object());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
