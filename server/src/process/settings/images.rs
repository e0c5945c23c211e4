//! Settings of encoded images in requests.

use anyhow::ensure;

use super::jpeg_decoding::JpegDecoding;
use crate::image_input::Decoder;

settings! {
    ImageFlags {}
    Images {}
    defaults {}
    /// Threads that decode images [default: 0, one for each core]
    #[arg(value_name = "N")]
    decode_threads: usize = 0, "QUINTET_DECODE_THREADS";
    /// How to decode JPEGs for models that do not say it (image_jpeg_decode): exact, or scaled, which is several times faster for large photographs and changes the pixels a little [default: exact]
    #[arg(value_enum)]
    jpeg_decode: JpegDecoding = JpegDecoding::Exact, "QUINTET_JPEG_DECODE";
    /// Maximum number of images that wait for decoding or are being decoded, so that waiting has an end; further ones get 503 [default: 1024]
    #[arg(value_name = "IMAGES", help_heading = "Limits")]
    max_decode_queue: usize = 1024, "QUINTET_MAX_DECODE_QUEUE";
    /// Maximum pixels of an image, checked before it is decoded, because a few bytes can announce any size [default: 50000000]
    #[arg(value_name = "PIXELS", help_heading = "Limits")]
    max_image_pixels: u64 = 50_000_000, "QUINTET_MAX_IMAGE_PIXELS";
    /// Maximum number of encoded images in one request, so that one request cannot fill the queue for decoding [default: 256]
    #[arg(help_heading = "Limits")]
    max_images: usize = 256, "QUINTET_MAX_IMAGES";
}

impl Images {
    /// The decoder of images.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(or_cores(self.decode_threads), self.max_decode_queue).with_jpeg_decode(self.jpeg_decode.into())
    }

    /// Checks that the settings fit each other.
    ///
    /// # Errors
    /// When one request may have more images than may wait, or none.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.max_images > 0, "max_images must be at least 1");
        ensure!(
            self.max_decode_queue >= self.max_images,
            "max_decode_queue is {}, but one request may have {} images (max_images): raise max_decode_queue or lower max_images",
            self.max_decode_queue,
            self.max_images
        );
        Ok(())
    }
}

/// `count`, or the number of cores if it is 0.
pub fn or_cores(count: usize) -> usize {
    if count > 0 { count } else { std::thread::available_parallelism().map_or(1, usize::from) }
}
