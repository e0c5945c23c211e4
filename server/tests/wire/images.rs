//! Images as people send them, to the jpeg lane on a real socket.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use image::{ImageFormat, Rgb, RgbImage};
use quintet_engine::{
    BatchPolicy, BufferPool, DataType, InferError, Instance, Model, ModelSpec, Placement, RunRequest, RunTimings,
    Shape, Tensor, TensorSpec,
};
use quintet_proto::inference::ModelConfig;
use quintet_server::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    image_input::Decoder,
    service::Service,
    transport::{http1, images::router, io_threads::IoThreads, listener::Listener},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

const RED: [u8; 3] = [255, 0, 0];

/// A model whose embedding is the colour of an image's first pixel.
struct FirstPixel;

impl Instance for FirstPixel {
    fn run(&mut self, request: RunRequest<'_>, _: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let images = request.inputs.iter().flatten().next().unwrap();
        let rows = images.shape().dims()[0];
        let colours = images.data().chunks(images.data().len() / rows).flat_map(|image| image[..3].to_vec());
        let data: Vec<u8> = colours.flat_map(|level| f32::from(level).to_le_bytes()).collect();
        let tensor = Tensor::new(DataType::Fp32, Shape::new([rows, 3]), Bytes::from(data));
        Ok(vec![Some(tensor.map_err(InferError::internal)?)])
    }

    fn placement(&self) -> Placement {
        Placement { provider: "CPUExecutionProvider".into(), ..Placement::default() }
    }
}

struct Lane {
    port: u16,
    _stop: DropGuard,
}

async fn start() -> Lane {
    let pool = BufferPool::new(64 << 20);
    let max_input = InputLimit { bytes: 1 << 20, flag: "--max-input-bytes" };
    let limits = Limits { max_input, max_image_pixels: 100_000, max_images: 8 };
    let catalog = Catalog::new(ServiceName::Jpeg, pool.clone(), limits).with_decoder(Decoder::new(2, 64));
    let service = Arc::new(Service::new(catalog));
    let inputs = vec![TensorSpec::new("image", DataType::Uint8, [224, 224, 3].map(Some))];
    let outputs = vec![TensorSpec::new("embedding", DataType::Fp32, [Some(3)])];
    let policy = BatchPolicy { max_batch_size: 8, ..BatchPolicy::default() };
    let spec = ModelSpec::new("colour", 1, inputs, outputs, policy).unwrap();
    let model = Model::start(spec, vec![Box::new(FirstPixel)], vec![], pool, Duration::ZERO).unwrap();
    service.catalog().put(model, ModelConfig::default());
    let listener = Listener::bind("jpeg", ([127, 0, 0, 1], 0).into(), 64).await.unwrap();
    let (port, stop) = (listener.port().unwrap(), CancellationToken::new());
    let routes = router(Arc::clone(&service), "colour");
    tokio::spawn(http1::serve::serve(listener, routes, service, IoThreads::start().unwrap(), stop.clone()));
    Lane { port, _stop: stop.drop_guard() }
}

impl Lane {
    /// The status and body of the answer to a POST on a new connection.
    async fn post(&self, path: &str, content_type: Option<&str>, body: impl AsRef<[u8]>) -> (u16, String) {
        let body = body.as_ref();
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let content_type = content_type.map(|value| format!("content-type: {value}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{content_type}content-length: {length}\r\n\r\n"
        );
        connection.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Asserts that this body has this number of red images.
    async fn reads(&self, path: &str, content_type: Option<&str>, body: impl AsRef<[u8]>, images: usize) {
        let (status, answer) = self.post(path, content_type, body).await;
        assert_eq!(status, 200, "{path} {content_type:?}: {answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let rows: Vec<[f32; 3]> = serde_json::from_value(answer["embeddings"].clone()).unwrap();
        assert_eq!(rows, vec![RED.map(f32::from); images], "{path} {content_type:?}");
    }

    /// The error of the answer to this body, which has status 400.
    async fn refusal(&self, path: &str, content_type: Option<&str>, body: impl AsRef<[u8]>) -> String {
        let (status, answer) = self.post(path, content_type, body).await;
        assert_eq!(status, 400, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["error"].as_str().unwrap().to_owned()
    }
}

fn red(format: ImageFormat) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(20, 20, Rgb(RED)).write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn base64() -> String {
    base64_simd::STANDARD.encode_to_string(red(ImageFormat::Png))
}

fn json(text: &str) -> String {
    serde_json::json!({ "images": [text] }).to_string()
}

#[tokio::test]
async fn the_bytes_decide_what_a_body_is() {
    let lane = start().await;
    let png = red(ImageFormat::Png);
    for content_type in [
        None,
        Some("image/jpg"),
        Some("image/pjpeg"),
        Some("image/*"),
        Some("image/jpeg"),
        Some("IMAGE/PNG; charset=binary"),
        Some("application/octet-stream"),
        Some("binary/octet-stream"),
        Some("application/x-www-form-urlencoded"),
        Some("text/plain"),
        Some("nonsense"),
        Some(""),
    ] {
        lane.reads("/embed", content_type, &png, 1).await;
        lane.reads("/embed", content_type, json(&base64()), 1).await;
    }
    for format in [ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        lane.reads("/embed", Some("image/jpeg"), red(format), 1).await;
    }
}

#[tokio::test]
async fn base64_is_read_as_people_send_it() {
    let lane = start().await;
    let base64 = base64();
    let lines = |end: &str| -> String {
        base64.as_bytes().chunks(76).map(|line| String::from_utf8(line.to_vec()).unwrap() + end).collect()
    };
    let url_safe = base64_simd::URL_SAFE.encode_to_string(red(ImageFormat::Png));
    for text in [
        lines("\n"),
        lines("\r\n"),
        base64.clone() + "\n",
        base64.trim_end_matches('=').to_owned(),
        url_safe.clone(),
        url_safe.trim_end_matches('=').to_owned(),
        format!("\u{feff}{base64}"),
    ] {
        lane.reads("/embed/base64", Some("application/json"), json(&text), 1).await;
    }
    let json = json(&base64);
    lane.reads("/embed/base64", None, format!("\u{feff}{json}"), 1).await;
    lane.reads("/embed", Some("application/json; charset=utf-8"), format!("\u{feff}{json}"), 1).await;
    lane.reads("/embed", None, format!("\u{feff} \n{json}"), 1).await;
    // `base64 FILE | curl --data-binary @-`
    lane.reads("/embed", Some("application/x-www-form-urlencoded"), lines("\n"), 1).await;
    lane.reads("/embed", Some("text/plain"), url_safe, 1).await;
}

#[tokio::test]
async fn data_urls_of_any_form_are_read() {
    let lane = start().await;
    let base64 = base64();
    let percent: String = red(ImageFormat::Png).iter().map(|byte| format!("%{byte:02x}")).collect();
    for url in [
        format!("data:image/png;base64,{base64}"),
        format!("DATA:IMAGE/PNG;BASE64,{base64}"),
        format!("data:;base64,{base64}"),
        format!("data:image/png;name=cat.png;charset=utf-8;base64,{base64}"),
        format!("data:image/png; base64,{base64}\n"),
        format!("data:image/png;base64,{}", base64.replace('=', "%3D").replace('+', "%2B")),
        format!("data:image/png,{percent}"),
        format!("data:,{percent}"),
    ] {
        lane.reads("/embed/base64", None, json(&url), 1).await;
        lane.reads("/embed", Some("text/plain"), &url, 1).await;
    }
}

fn multipart(fields: &[&str], file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for field in fields {
        let head = format!("--X\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"cat.png\"\r\n\r\n");
        body.extend([head.as_bytes(), file, b"\r\n"].concat());
    }
    [body, b"--X--\r\n".to_vec()].concat()
}

#[tokio::test]
async fn multipart_fields_of_usual_names_are_read() {
    let lane = start().await;
    let content_type = Some("multipart/form-data; boundary=X");
    let png = red(ImageFormat::Png);
    for field in ["files", "files[]", "file", "file[]", "image", "images", "images[]", "files[0]"] {
        for path in ["/embed", "/embed/batch"] {
            lane.reads(path, content_type, multipart(&[field], &png), 1).await;
        }
    }
    lane.reads("/embed", content_type, multipart(&["files[0]", "files[1]", "token"], &png), 2).await;
    lane.reads("/embed", content_type, multipart(&["file"], base64().as_bytes()), 1).await;
    let refusal = lane.refusal("/embed", content_type, multipart(&["photo"], &png)).await;
    assert_eq!(refusal, "no image in the request: it has no field 'files', only 'photo'");
}

#[tokio::test]
async fn what_is_not_an_image_is_named() {
    let lane = start().await;
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    insta::assert_snapshot!(
        [
            lane.refusal("/embed", None, json("https://example.com/cat.jpg")).await,
            lane.refusal("/embed", Some("text/plain"), "http://example.com/cat.jpg").await,
            lane.refusal("/embed", Some("multipart/form-data; boundary=X"), multipart(&["file"], b"https://x/cat")).await,
            lane.refusal("/embed", Some("image/heic"), heic).await,
            lane.refusal("/embed", None, "<!doctype html><title>404</title>").await,
            lane.refusal("/embed", None, "").await,
            lane.refusal("/embed", None, &red(ImageFormat::Jpeg)[..200]).await,
            lane.refusal("/embed", None, json("data:image/png;base64")).await,
            lane.refusal("/embed", None, json("b'iVBO'")).await,
        ]
        .join("\n"),
        @r#"
        images[0]: it is a URL, which the server does not fetch: send the image itself in base64
        the body: not a JPEG, PNG, WebP, GIF, BMP or TIFF image: found a URL; send the bytes of the image, because the server does not fetch it
        files[0] "cat.png": not a JPEG, PNG, WebP, GIF, BMP or TIFF image: found a URL; send the bytes of the image, because the server does not fetch it
        the body: not a JPEG, PNG, WebP, GIF, BMP or TIFF image: found a HEIC image; convert it to JPEG (an iPhone sends JPEG with Camera > Formats > Most Compatible)
        the body: not a JPEG, PNG, WebP, GIF, BMP or TIFF image: found an HTML page; the download of the image may have failed
        the body: not a JPEG, PNG, WebP, GIF, BMP or TIFF image: found nothing (0 bytes)
        the body: cannot decode JPEG: truncated: it ends before its pixels
        images[0]: a data: URL has a comma before its data: data:image/jpeg;base64,...
        images[0]: '\'' at position 1 is not a base64 character (A-Z a-z 0-9 + / or - _)
        "#
    );
}
