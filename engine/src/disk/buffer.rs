//! Memory that O_DIRECT accepts, and that many threads may read while its end is still being written.
//!
//! Owns aligned allocation ([`Aligned`]), the log buffer ([`Appendable`] and the frozen slices
//! [`Shared`] of it) and the free list of equal buffers ([`Pool`]). Knows nothing of batches.
//!
//! Invariants
//!  U1. A byte is either in the open end of exactly one [`Appendable`], and then only that touches
//!      it, or frozen, and then nobody writes it any more.            test `frozen_bytes_stay`
//!  U2. Every byte that can be read has been written since the memory was handed out.
//!                                                                     test `stale_bytes_do_not_show`
//!  U3. Every start of an open end is aligned when lengths are frozen in whole blocks.
//!
//! Bounds: a [`Pool`] keeps at most `buffers_max` idle buffers.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Alignment of every buffer: no device asks for more.
pub const ALIGNMENT: usize = 4096;

/// An aligned allocation; does not say what of it is initialized or shared.
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is owned, and all access goes through `Aligned` and `Appendable`, which follow U1.
unsafe impl Send for Memory {}
// SAFETY: as above: concurrent access is to disjoint or to frozen bytes.
unsafe impl Sync for Memory {}

impl Memory {
    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGNMENT).expect("buffers are far below isize::MAX")
    }

    fn zeroed(bytes: usize) -> Memory {
        assert!(bytes > 0, "buffers are not empty");
        let layout = Memory::layout(bytes);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Memory { start, bytes }
    }

    /// # Safety
    /// Nobody writes the range for as long as the slice lives.
    unsafe fn slice(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.bytes);
        // SAFETY: inside the allocation, initialized since `zeroed`; not written, by the caller.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }
    }

    /// # Safety
    /// Nobody else touches the range for as long as the slice lives.
    #[expect(clippy::mut_from_ref, reason = "exclusive use of the range is the caller's contract")]
    unsafe fn slice_mut(&self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.bytes);
        // SAFETY: inside the allocation, initialized since `zeroed`; exclusive, by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(range.start), range.len()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), Memory::layout(self.bytes)) }
    }
}

/// An owned, aligned, zeroed buffer of fixed length.
pub struct Aligned(Memory);

impl Aligned {
    /// A buffer of `bytes` zeros; `bytes` is above 0.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Aligned {
        Aligned(Memory::zeroed(bytes))
    }
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer is owned, and writing needs `&mut self`.
        unsafe { self.0.slice(0..self.0.bytes) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the buffer is owned, and `&mut self` is exclusive.
        unsafe { self.0.slice_mut(0..self.0.bytes) }
    }
}

impl fmt::Debug for Aligned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aligned({} bytes)", self.0.bytes)
    }
}

/// A free list of buffers of one size.
#[derive(Clone)]
pub struct Pool(Arc<PoolState>);

struct PoolState {
    buffer_bytes: usize,
    buffers_max: usize,
    free: Mutex<Vec<Memory>>,
}

impl Pool {
    /// A pool of buffers of `buffer_bytes`, at most `buffers_max` of them kept idle.
    #[must_use]
    pub fn new(buffer_bytes: usize, buffers_max: usize) -> Pool {
        Pool(Arc::new(PoolState { buffer_bytes, buffers_max, free: Mutex::default() }))
    }

    /// Length of its buffers.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.0.buffer_bytes
    }

    /// An empty buffer that holds at least `bytes`: one of the pool's, or a larger one made for this.
    #[must_use]
    pub fn appendable(&self, bytes: usize) -> Appendable {
        if bytes > self.0.buffer_bytes {
            return Appendable::alone(bytes);
        }
        let idle = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = idle.unwrap_or_else(|| Memory::zeroed(self.0.buffer_bytes));
        let memory = Arc::new(Pooled { memory: Some(memory), pool: Some(self.clone()) });
        Appendable { memory, open: 0..0 }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} bytes a buffer)", self.0.buffer_bytes)
    }
}

/// Memory that goes back to its pool when nobody refers to it any more.
struct Pooled {
    memory: Option<Memory>,
    pool: Option<Pool>,
}

impl Pooled {
    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("taken only in drop")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let (Some(pool), Some(memory)) = (&self.pool, self.memory.take()) else { return };
        let mut free = pool.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < pool.0.buffers_max {
            free.push(memory);
        }
    }
}

/// A buffer that is filled from front to back and frozen piece by piece.
pub struct Appendable {
    memory: Arc<Pooled>,
    /// The piece being filled; everything before it is frozen.
    open: Range<usize>,
}

impl Appendable {
    /// A buffer of exactly `bytes` that belongs to no pool.
    #[must_use]
    pub fn alone(bytes: usize) -> Appendable {
        let memory = Arc::new(Pooled { memory: Some(Memory::zeroed(bytes)), pool: None });
        Appendable { memory, open: 0..0 }
    }

    /// Bytes of the open piece.
    #[must_use]
    pub fn open_bytes(&self) -> usize {
        self.open.len()
    }

    /// Bytes that still fit behind the open piece.
    #[must_use]
    pub fn room(&self) -> usize {
        self.memory.memory().bytes - self.open.end
    }

    /// Appends to the open piece; the caller has looked at [`Appendable::room`].
    pub fn push(&mut self, bytes: &[u8]) {
        let place = self.grow(bytes.len());
        // SAFETY: behind the open piece nothing was handed out (U1), and `&mut self` is exclusive.
        unsafe { self.memory.memory().slice_mut(place) }.copy_from_slice(bytes);
    }

    /// Appends zeros until the open piece has `bytes` bytes.
    pub fn pad_to(&mut self, bytes: usize) {
        let place = self.grow(bytes - self.open.len());
        // SAFETY: as in `push`.
        unsafe { self.memory.memory().slice_mut(place) }.fill(0);
    }

    fn grow(&mut self, bytes: usize) -> Range<usize> {
        assert!(bytes <= self.room(), "the caller looked at the room");
        let place = self.open.end..self.open.end + bytes;
        self.open.end = place.end;
        place
    }

    /// The open piece, to be written in place.
    pub fn open_mut(&mut self) -> &mut [u8] {
        // SAFETY: the open piece belongs to this value alone (U1), and `&mut self` is exclusive.
        unsafe { self.memory.memory().slice_mut(self.open.clone()) }
    }

    /// Ends the open piece: from now on it is shared and never written. The next one starts behind it.
    pub fn freeze(&mut self) -> Shared {
        let range = self.open.clone();
        self.open = range.end..range.end;
        Shared { memory: Arc::clone(&self.memory), range }
    }

    /// Forgets the open piece, as if it had never been pushed.
    pub fn discard(&mut self) {
        self.open.end = self.open.start;
    }
}

impl fmt::Debug for Appendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Appendable(open {:?})", self.open)
    }
}

/// A frozen piece of an [`Appendable`]: cheap to clone, never written again.
#[derive(Clone)]
pub struct Shared {
    memory: Arc<Pooled>,
    range: Range<usize>,
}

impl Shared {
    /// A part of this piece.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Shared {
        assert!(range.start <= range.end && range.end <= self.range.len());
        let start = self.range.start + range.start;
        Shared { memory: Arc::clone(&self.memory), range: start..start + range.len() }
    }
}

impl Deref for Shared {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: frozen bytes are never written again (U1).
        unsafe { self.memory.memory().slice(self.range.clone()) }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} bytes)", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_bytes_stay() {
        let pool = Pool::new(8192, 2);
        let mut buffer = pool.appendable(100);
        buffer.push(b"one");
        buffer.pad_to(512);
        let one = buffer.freeze();
        buffer.push(b"two");
        let reader = {
            let one = one.clone();
            std::thread::spawn(move || one.iter().map(|b| u32::from(*b)).sum::<u32>())
        };
        buffer.pad_to(1024);
        buffer.open_mut()[0] = b'T';
        let two = buffer.freeze();
        assert_eq!(reader.join().unwrap(), b"one".iter().map(|b| u32::from(*b)).sum());
        assert_eq!((&one[..3], &two[..3]), (&b"one"[..], &b"Two"[..]));
        assert_eq!(&two.slice(1..3)[..], b"wo");
        assert_eq!(buffer.room(), 8192 - 1536);
    }

    #[test]
    fn stale_bytes_do_not_show() {
        let pool = Pool::new(4096, 1);
        let mut buffer = pool.appendable(1);
        buffer.push(&[0xff; 4096]);
        drop(buffer);
        let mut buffer = pool.appendable(1);
        buffer.push(b"x");
        buffer.pad_to(4096);
        assert!(buffer.freeze()[1..].iter().all(|b| *b == 0));
    }

    #[test]
    fn large_requests_get_their_own_memory() {
        let pool = Pool::new(4096, 1);
        let mut buffer = pool.appendable(10_000);
        assert_eq!(buffer.room(), 10_000);
        buffer.push(&[1; 10]);
        buffer.discard();
        assert_eq!((buffer.open_bytes(), buffer.room()), (0, 10_000));
    }

    #[test]
    fn memory_is_aligned() {
        let aligned = Aligned::zeroed(10);
        assert_eq!(aligned.as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!(&aligned[..], &[0; 10]);
    }
}
