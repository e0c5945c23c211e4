//! Embeddings: every form of a body, and batches.

use std::sync::{LazyLock, atomic::Ordering::SeqCst};

use http::StatusCode;
use image::{ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;
use quintet_engine::{DataType, TensorSpec};
use quintet_proto::inference::ModelConfig;
use serde_json::json;

use super::support::{
    BLUE, MAX_BATCH_SIZE, MAX_IMAGES, PIXELS, RED, Suite, TENSOR, base64, colours, encode, png, start_beside,
};
use crate::image_input::Decoder;

#[tokio::test]
async fn images_in_every_form_are_embedded() {
    for input in [PIXELS, TENSOR] {
        let suite = Suite::new(input);
        let uri = format!("data:image/png;base64,{}", base64(&png(BLUE)));
        let answers = [
            suite.post_json("/embed/base64", &[base64(&png(RED)), uri.clone()]).await,
            suite.post_json("/embed", &[base64(&png(RED)), uri]).await,
            suite.post_files(&[("a.png", png(RED)), ("b.png", png(BLUE))]).await,
        ];
        for (status, body) in answers {
            assert_eq!((status, colours(&body)), (StatusCode::OK, vec![RED, BLUE]), "{body}");
            assert_eq!(body["count"], 2);
            let info = json!({"model": "scripted", "version": "3", "effective_provider": "CPUExecutionProvider"});
            assert_eq!(body["model_info"], info);
        }
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let image = encode(&RgbImage::from_pixel(20, 20, Rgb(RED)), format);
            let (status, body) = suite.post("/embed", format.to_mime_type(), image).await;
            assert_eq!((status, colours(&body)), (StatusCode::OK, vec![RED]), "{body}");
        }
        let jpeg = encode(&RgbImage::from_pixel(20, 20, Rgb([200; 3])), ImageFormat::Jpeg);
        let (status, body) = suite.post("/embed", "image/jpeg", jpeg).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert!(colours(&body)[0].iter().all(|value| value.abs_diff(200) <= 3), "{body}");
    }
}

#[tokio::test]
async fn optional_inputs_are_left_out_and_required_ones_refused() {
    let blur = |optional| vec![TensorSpec { optional, ..TensorSpec::new("blur", DataType::Fp32, [Some(1)]) }];
    for (optional, status) in [(true, StatusCode::OK), (false, StatusCode::NOT_IMPLEMENTED)] {
        let (suite, model) = start_beside(blur(optional), PIXELS, ["logits", "embedding"], Decoder::new(1, 8));
        suite.service.catalog().put(model, ModelConfig::default());
        let (found, body) = suite.post("/embed", "image/png", png(RED)).await;
        assert_eq!(found, status, "{body}");
        assert!(!optional || colours(&body) == [RED], "{body}");
        assert!(!optional || suite.counters.inputs.load(SeqCst) == 1, "it is left out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_image_gets_its_own_embedding(wanted in prop::collection::vec(any::<[u8; 3]>(), 1..=MAX_IMAGES), files: bool) {
        static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
        static SUITE: LazyLock<Suite> = LazyLock::new(|| Suite::new(PIXELS));
        let runs = SUITE.counters.runs.load(SeqCst);
        let images: Vec<_> = wanted.iter().map(|colour| png(*colour)).collect();
        let (status, body) = RUNTIME.block_on(async {
            if files {
                SUITE.post_files(&images.into_iter().map(|image| ("a", image)).collect::<Vec<_>>()).await
            } else {
                SUITE.post_json("/embed/base64", &images.iter().map(|image| base64(image)).collect::<Vec<_>>()).await
            }
        });
        prop_assert_eq!(status, StatusCode::OK, "{}", body);
        prop_assert_eq!(colours(&body), wanted.clone());
        prop_assert!(SUITE.counters.largest.load(SeqCst) <= MAX_BATCH_SIZE);
        prop_assert!(SUITE.counters.runs.load(SeqCst) - runs >= wanted.len().div_ceil(MAX_BATCH_SIZE));
    }
}
