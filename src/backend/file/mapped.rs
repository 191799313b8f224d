//! The text of a registry: in memory, or mapped where it is large, so that memory does not follow its size.
//!
//! What a map holds depends on other programs. One that replaces the file leaves the map as it was. One that writes
//! *into* the file changes the text under its reader, and one that cuts the file short ends the process with SIGBUS. A
//! write is noticed by the stamp: after the text was scanned, and again before the registry is replaced. SIGBUS is one
//! more way to die, after which the next run finishes. A registry of a usual size is read into memory, and meets neither.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, Builder, scope};

use memmap2::Mmap;

use crate::os::FileMeta;
use crate::os::Stamp;
use crate::registry::json::Text;

/// In bytes. What is larger is mapped.
const LARGEST_IN_MEMORY: u64 = 16 << 20;

/// In bytes. What is smaller is read before a second thread has begun.
const SMALLEST_FOR_THREADS: u64 = 2 << 20;

/// What a file holds.
pub(super) enum Contents {
    Text(Arc<dyn Text>),
    /// As large as they are, if they are not text.
    Bytes(Vec<u8>),
}

impl Contents {
    pub(super) fn of(file: &mut File, stamp: Stamp) -> io::Result<Self> {
        let size = stamp.size;
        if size > LARGEST_IN_MEMORY
            && let Some(text) = MappedText::of(file.try_clone()?, stamp)?
        {
            return Ok(Self::Text(Arc::new(text)));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.read_to_end(&mut bytes)?;
        Ok(Self::Bytes(bytes))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.text().len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// How many threads are worth their while for a file of that size.
pub(super) fn threads(size: u64) -> usize {
    if size < SMALLEST_FOR_THREADS {
        1
    } else {
        thread::available_parallelism().map_or(1, |threads| threads.get().min(8))
    }
}

#[derive(Debug)]
struct MappedText {
    map: Mmap,
    file: File,
    stamp: Stamp,
}

impl MappedText {
    /// `None`: it is not text.
    fn of(file: File, stamp: Stamp) -> io::Result<Option<Self>> {
        #[allow(unsafe_code, reason = "files change under their maps; the top of this file says what becomes of that")]
        // SAFETY: no program should write into the file, and nothing prevents it: the top of this file says what becomes of
        // that.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(is_text(&map, threads(stamp.size)).then_some(Self { map, file, stamp }))
    }
}

impl Text for MappedText {
    fn text(&self) -> &str {
        #[allow(unsafe_code, reason = "it is asked for often, and checking it takes as long as reading it")]
        // SAFETY: all of it was checked when it was mapped. No program should have written into the file since; see there.
        unsafe {
            str::from_utf8_unchecked(&self.map)
        }
    }

    fn is_intact(&self) -> bool {
        self.file.metadata().is_ok_and(|now| FileMeta::of(&now).stamp == self.stamp)
    }
}

/// Whether a map holds UTF-8. Each thread is also the first to touch its part, and so brings it in.
fn is_text(map: &Mmap, threads: usize) -> bool {
    let within = |byte: &u8| byte & 0xC0 == 0x80;
    let start = |part: usize| {
        let at = map.len() / threads * part;
        at + map[at..].iter().take_while(|byte| within(byte)).count()
    };
    // The first part begins where the file does, even in the middle of a character.
    let starts = [0].into_iter().chain((1..threads).map(start));
    let ends = (1..threads).map(start).chain([map.len()]);
    let parts: Vec<Range<usize>> = starts.zip(ends).map(|(start, end)| start..end).collect();
    let check = |part: &Range<usize>| {
        // Where that cannot be done, there is a fault for every few pages instead.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::PopulateRead, part.start, part.len());
        map.get(part.clone()).is_some_and(|part| simdutf8::basic::from_utf8(part).is_ok())
    };
    scope(|scope| {
        let check = &check;
        let begun: Vec<_> =
            parts.iter().map(|part| (part, Builder::new().spawn_scoped(scope, move || check(part)))).collect();
        begun.into_iter().all(|(part, begun)| match begun {
            Ok(thread) => thread.join().is_ok_and(|is_text| is_text),
            // No more threads can be started.
            Err(_) => check(part),
        })
    })
}
