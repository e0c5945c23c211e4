//! Decodes images into the rows of batches, on a bounded number of threads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread, vec,
};

use bytes::Bytes;
use parking_lot::Mutex;
use quintet_engine::{BufferPool, ErrorKind, InferError, buffer::Buffer};
use quintet_preprocess::{ImageError, JpegDecode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::{encoded::Image, input::ImageInput};

/// Decodes the images of all requests. Clones share the threads and the queue.
#[derive(Clone)]
pub struct Decoder {
    /// One permit per image that may be decoded at once.
    threads: Arc<Semaphore>,
    /// One permit per image that may wait or be decoded at once.
    queue: Arc<Semaphore>,
    max_queue: usize,
    jpeg_decode: JpegDecode,
}

/// The input that images become, and the limits of a batch and of an image.
#[derive(Clone, Debug)]
pub struct Target {
    /// The model's input.
    pub input: ImageInput,
    /// The most images in a batch.
    pub max_batch_size: usize,
    /// The most pixels in an image.
    pub max_pixels: u64,
}

/// As many threads as cores, and 1024 images.
impl Default for Decoder {
    fn default() -> Self {
        Self::new(thread::available_parallelism().map_or(1, usize::from), 1024)
    }
}

impl Decoder {
    /// Decodes at most `threads` images at once. At most `max_queue` images wait, including those that are being decoded.
    pub fn new(threads: usize, max_queue: usize) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)));
        Self { threads: semaphore(threads), queue: semaphore(max_queue), max_queue, jpeg_decode: JpegDecode::default() }
    }

    /// The same decoder, which decodes JPEGs so for models that do not say how.
    #[must_use]
    pub fn with_jpeg_decode(self, jpeg_decode: JpegDecode) -> Self {
        Self { jpeg_decode, ..self }
    }

    /// How JPEGs are decoded for models that do not say how.
    pub fn jpeg_decode(&self) -> JpegDecode {
        self.jpeg_decode
    }

    /// Decodes images into batches, in order. A batch is its number of images, and their tensors one after another.
    /// Dropping the future cancels the images that are not being decoded yet.
    ///
    /// # Errors
    /// [`ErrorKind::QueueFull`], [`ErrorKind::NoMemory`], or the error of the first bad image.
    pub async fn decode(
        &self,
        images: Vec<Image>,
        target: Target,
        pool: &BufferPool,
    ) -> Result<Vec<(usize, Bytes)>, InferError> {
        let count = u32::try_from(images.len()).unwrap_or(u32::MAX);
        let slots = Arc::clone(&self.queue).try_acquire_many_owned(count).map_err(|_| {
            InferError::new(
                ErrorKind::QueueFull,
                format_args!(
                    "cannot decode {count} more images now: at most {} may wait (--max-decode-queue)",
                    self.max_queue
                ),
            )
        })?;
        let permit = Arc::clone(&self.threads).acquire_owned().await.map_err(InferError::internal)?;
        let (stop, threads, pool) = (CancellationToken::new(), Arc::clone(&self.threads), pool.clone());
        let _stop_when_dropped = stop.clone().drop_guard();
        let decoding = tokio::task::spawn_blocking(move || {
            let _held = (slots, permit);
            decode_all(&images, target, &pool, &threads, stop)
        });
        decoding.await.map_err(|error| InferError::internal(format_args!("the decoding thread failed: {error}")))?
    }
}

/// Decodes on this thread, and on further threads while permits are free.
fn decode_all(
    images: &[Image],
    target: Target,
    pool: &BufferPool,
    threads: &Semaphore,
    stop: CancellationToken,
) -> Result<Vec<(usize, Bytes)>, InferError> {
    let image_bytes = target.input.image_bytes();
    let chunks = images.chunks(target.max_batch_size);
    let batch = |chunk: &[Image]| Ok((chunk.len(), pool.try_take(chunk.len() * image_bytes)?));
    let mut batches = chunks.map(batch).collect::<Result<Vec<_>, InferError>>()?;
    let rows = batches.iter_mut().flat_map(|(_, buffer)| buffer.chunks_exact_mut(image_bytes));
    let jobs: Vec<_> = images.iter().zip(rows).enumerate().map(|(at, (image, row))| Job { at, image, row }).collect();
    let work = Work { jobs: Mutex::new(jobs.into_iter()), failure: Mutex::new(None), stop, target };
    thread::scope(|scope| {
        while let Some(job) = work.next() {
            while let Ok(permit) = threads.try_acquire()
                && let Some(job) = work.next()
            {
                let (work, at) = (&work, job.at);
                let helper = thread::Builder::new().name("decode".into());
                if let Err(error) = helper.spawn_scoped(scope, move || work.help(job, permit, threads)) {
                    work.fail(at, InferError::internal(format_args!("cannot start a thread to decode: {error}")));
                }
            }
            work.run(job);
        }
    });
    match work.failure.into_inner() {
        Some((_, error)) => Err(error),
        None => Ok(batches.into_iter().map(|(count, buffer): (_, Buffer)| (count, buffer.freeze())).collect()),
    }
}

/// One image and its row in a batch.
struct Job<'a> {
    /// The index of the image in its request.
    at: usize,
    image: &'a Image,
    row: &'a mut [u8],
}

/// The images of one request, which are started in order.
struct Work<'a> {
    jobs: Mutex<vec::IntoIter<Job<'a>>>,
    /// The index and error of the first bad image. All images before it were started, so it does not depend on timing.
    failure: Mutex<Option<(usize, InferError)>>,
    /// Cancelled when the client disconnects or an image fails: start no more images.
    stop: CancellationToken,
    target: Target,
}

impl<'a> Work<'a> {
    fn next(&self) -> Option<Job<'a>> {
        if self.stop.is_cancelled() { None } else { self.jobs.lock().next() }
    }

    /// Decodes `job`, then further images as long as no other request waits for the thread.
    fn help<'t>(&self, job: Job<'a>, permit: SemaphorePermit<'t>, threads: &'t Semaphore) {
        self.run(job);
        drop(permit);
        while let Ok(_permit) = threads.try_acquire()
            && let Some(job) = self.next()
        {
            self.run(job);
        }
    }

    fn run(&self, job: Job<'_>) {
        let at = job.at;
        let outcome = catch_unwind(AssertUnwindSafe(|| decode_one(job.image, &self.target, job.row)));
        let panicked = |_| Err(job.image.refusal(ErrorKind::Internal, "the decoder panicked; see the server's log"));
        if let Err(error) = outcome.unwrap_or_else(panicked) {
            self.fail(at, error);
        }
    }

    fn fail(&self, at: usize, error: InferError) {
        self.stop.cancel();
        let mut failure = self.failure.lock();
        if failure.as_ref().is_none_or(|(first, _)| at < *first) {
            *failure = Some((at, error));
        }
    }
}

fn decode_one(image: &Image, target: &Target, row: &mut [u8]) -> Result<(), InferError> {
    let encoded = image.encoded()?;
    target.input.prepare(&encoded, target.max_pixels, row).map_err(|error| match error {
        ImageError::TooManyPixels { width, height, max_pixels } => image.refusal(
            ErrorKind::TooLarge,
            format_args!("{width}x{height} pixels, over the limit of {max_pixels} (--max-image-pixels)"),
        ),
        error => image.refusal(ErrorKind::InvalidInput, error),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use futures_util::FutureExt as _;

    use quintet_engine::{BatchPolicy, DataType, ModelSpec, TensorSpec};

    use super::*;
    use crate::image_input::encoded::images_of;

    fn target() -> Target {
        let pixels = TensorSpec::new("x", DataType::Uint8, [224, 224, 3].map(Some));
        let spec = ModelSpec::new("m", 1, vec![pixels.clone()], vec![pixels], BatchPolicy::default()).unwrap();
        let input = ImageInput::new(&spec, &HashMap::new(), JpegDecode::Exact).unwrap().unwrap();
        Target { input, max_batch_size: 2, max_pixels: 1 }
    }

    #[tokio::test]
    async fn a_cancelled_request_frees_its_slots() {
        let decoder = Decoder::new(1, 4);
        let busy = decoder.threads.acquire().await.unwrap();
        let pool = BufferPool::new(0);
        let mut waiting = Box::pin(decoder.decode(images_of(&["x", "x", "x"]), target(), &pool));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(decoder.queue.available_permits(), 1);
        let refused = decoder.decode(images_of(&["x", "x"]), target(), &pool).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::QueueFull);
        drop(waiting);
        drop(busy);
        assert_eq!((decoder.queue.available_permits(), decoder.threads.available_permits()), (4, 1));
    }

    #[test]
    fn a_cancelled_request_starts_no_images() {
        let stop = CancellationToken::new();
        stop.cancel();
        let threads = Semaphore::new(3);
        // These are not images, so decoding one would fail.
        decode_all(&images_of(&["x", "x"]), target(), &BufferPool::new(0), &threads, stop).unwrap();
    }

    #[test]
    fn reports_the_first_bad_image() {
        let threads = Semaphore::new(3);
        for _ in 0..50 {
            let images = images_of(&["x"; 7]);
            let error = decode_all(&images, target(), &BufferPool::new(0), &threads, CancellationToken::new());
            assert!(error.unwrap_err().to_string().starts_with("images[0]: "));
            assert_eq!(threads.available_permits(), 3);
        }
    }
}
