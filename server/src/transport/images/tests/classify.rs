//! Classes: ranked, with labels and probabilities.

use http::StatusCode;
use serde_json::json;

use super::support::{BLUE, PIXELS, RED, Suite, base64, png};

#[tokio::test]
async fn classes_are_ranked_with_their_labels() {
    let suite = Suite::new(PIXELS);
    let (status, body) = suite.post("/classify?k=2", "image/png", png([0, 64, 128])).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let sum: f64 = [0.0, 1.0, 2.0, 0.0f64].map(f64::exp).iter().sum();
    let top = &body["classifications"][0];
    assert_eq!((&top[0]["index"], &top[0]["label"], &top[0]["logit"]), (&json!(2), &json!("blue"), &json!(2.0)));
    assert!((top[0]["score"].as_f64().unwrap() - 2f64.exp() / sum).abs() < 1e-12, "{body}");
    assert_eq!((top.as_array().unwrap().len(), &top[1]["label"]), (2, &json!("green")));

    let (_, body) = suite.post_json("/classify?k=99", &[base64(&png(RED)), base64(&png(BLUE))]).await;
    let classes = body["classifications"].as_array().unwrap();
    assert_eq!((classes.len(), classes[1].as_array().unwrap().len()), (2, 4), "at most all classes");
    assert_eq!((&classes[0][0]["label"], &classes[1][0]["label"]), (&json!("red"), &json!("blue")));
    let unnamed = classes[0].as_array().unwrap().iter().find(|class| class["index"] == 3).unwrap();
    assert!(unnamed.get("label").is_none(), "{unnamed}");

    let (status, body) = suite.post("/classify?k=0", "image/png", png(RED)).await;
    assert_eq!(
        (status, &body["error"]),
        (StatusCode::BAD_REQUEST, &json!("k must be a whole number of at least 1, got '0'"))
    );
}
