//! Aligned memory: the allocator's, or a source's.

/// Alignment of every buffer in bytes: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

/// Size of the smallest buffer that is kept; the allocator is fast for smaller ones.
pub(super) const MIN_KEPT_BYTES: usize = 4 << 10;

/// Memory from a [`Source`], which gets it back when it is dropped.
pub trait Block: AsRef<[u8]> + AsMut<[u8]> + Send + Sync {}

/// A source of other memory than the allocator's, e.g. page-locked memory, which a GPU reads faster.
pub trait Source: Send + Sync {
    /// `len` bytes, aligned to [`ALIGNMENT`]; `None` if it is exhausted.
    fn allocate(&self, len: usize) -> Option<Box<dyn Block>>;
}

pub(super) enum Memory {
    /// The allocator's, and where in it the first aligned byte is.
    Own {
        bytes: Vec<u8>,
        start: usize,
    },
    Borrowed(Box<dyn Block>),
}

impl Memory {
    /// New memory. Its pages are the system's until they are written: the allocator gets large memory zeroed.
    pub(super) fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + ALIGNMENT];
        let start = (bytes.as_ptr() as usize).next_multiple_of(ALIGNMENT) - bytes.as_ptr() as usize;
        Self::Own { bytes, start }
    }

    pub(super) fn is_borrowed(&self) -> bool {
        matches!(self, Self::Borrowed(_))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own { bytes, start } => {
                bytes.get(*start..(bytes.len() + start).saturating_sub(ALIGNMENT)).unwrap_or_default()
            }
            Self::Borrowed(block) => (**block).as_ref(),
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Own { bytes, start } => {
                let end = (bytes.len() + *start).saturating_sub(ALIGNMENT);
                bytes.get_mut(*start..end).unwrap_or_default()
            }
            Self::Borrowed(block) => (**block).as_mut(),
        }
    }
}
