//! Mapping of shared files: the only unsafe code of this crate.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use nix::fcntl::{FallocateFlags, FcntlArg, fallocate, fcntl};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags};
use nix::sys::statfs::fstatfs;

use crate::layout::Section;

/// Why a shared file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A call on the file failed.
    #[error("{call}({}): {source}; {advice}", path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
        /// What the operator can do.
        advice: &'static str,
    },
    /// Another writer lives.
    #[error("{} is held by process {pid}: only one instance may write it; stop the other one first", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder, 0 where the kernel does not say.
        pid: i32,
    },
    /// The file was made by another version, or with other table sizes.
    #[error(
        "{} does not fit: {what} is {found:#x} there and {expected:#x} here; run cordon-dataplane and cordond of one \
         version with one configuration (restart the older one)",
        path.display()
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Which number differs.
        what: &'static str,
        /// In the file.
        found: u64,
        /// In this program.
        expected: u64,
    },
}

/// Types that may stand in a shared file.
///
/// # Safety
/// The type must be `repr(C)` or `repr(transparent)`, consist of atomics only (so that any bit pattern is valid and
/// concurrent writes by another process are no data race), and need no drop.
pub unsafe trait Shared: Sync {}
// SAFETY: an atomic integer takes any bit pattern.
unsafe impl Shared for AtomicU8 {}
// SAFETY: an atomic integer takes any bit pattern.
unsafe impl Shared for AtomicU16 {}
// SAFETY: an atomic integer takes any bit pattern.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic integer takes any bit pattern.
unsafe impl Shared for AtomicU64 {}
// SAFETY: an array of shared values is made of shared values only.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// Declares a `repr(C)` struct made of [`Shared`] fields.
macro_rules! shared_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $fvis:vis $field:ident : $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        $vis struct $name { $($(#[$fmeta])* $fvis $field: $ty,)* }
        // SAFETY: `repr(C)`, and the bound below holds for every field.
        unsafe impl $crate::map::Shared for $name {}
        const _: () = {
            const fn shared<T: $crate::map::Shared>() {}
            $(shared::<$ty>();)*
        };
    };
}
pub(crate) use shared_struct;

/// The pages behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// 4 KiB pages: a random access costs up to twice as much on large tables.
    Small,
    /// Huge pages: hugetlbfs, or tmpfs or anonymous memory that the kernel backed with them.
    Huge,
}

/// A mapped file, or anonymous memory.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    inode: u64,
}

// SAFETY: the memory is reached only as `Shared` values, which are atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

const HUGETLBFS_MAGIC: i64 = 0x958458f6;

fn advice_for(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        // hugetlbfs says the latter.
        Some(nix::libc::ENOSPC | nix::libc::ENOMEM) => {
            "the file system that holds the tables is full: enlarge it or lower [tables] in the configuration"
        }
        Some(nix::libc::EACCES | nix::libc::EPERM) => "run as root or as the user that owns the directory",
        Some(nix::libc::ENOENT) => "is the other process running, with the same [run] tables directory?",
        _ => "see the cause",
    }
}

fn io_error(call: &'static str, path: &Path, source: impl Into<io::Error>) -> RegionError {
    let source = source.into();
    let advice = advice_for(&source);
    RegionError::Io { call, path: path.to_owned(), source, advice }
}

impl Mapping {
    /// Makes a file of `len` zero bytes beside `path`, allocated and populated; [`Mapping::publish`] gives it its name.
    pub fn create(path: &Path, len: usize) -> Result<(Mapping, PathBuf), RegionError> {
        let fresh = path.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(&fresh)
            .map_err(|e| io_error("open", &fresh, e))?;
        file.set_len(len as u64).map_err(|e| io_error("ftruncate", &fresh, e))?;
        // Mapping populates, with huge pages where the file system takes advice; fallocate hears none, so it comes second.
        let mapped = Self::map(&file, &fresh, len, true).and_then(|map| {
            // A sparse file would kill a worker with SIGBUS at its first page when the memory runs out: take it now.
            let bytes = i64::try_from(len).unwrap_or(i64::MAX);
            fallocate(&file, FallocateFlags::empty(), 0, bytes)
                .map_err(|e| io_error("fallocate", &fresh, e))?;
            Ok(map)
        });
        match mapped {
            Ok(map) => Ok((map, fresh)),
            Err(e) => {
                let _ = std::fs::remove_file(&fresh);
                Err(e)
            }
        }
    }

    /// Gives a file made by [`Mapping::create`] its name, replacing an older one whose readers keep their mapping.
    pub fn publish(fresh: &Path, path: &Path) -> Result<(), RegionError> {
        std::fs::rename(fresh, path).map_err(|e| io_error("rename", path, e))
    }

    /// Maps an existing file. The length is the file's own.
    pub fn open(path: &Path, writable: bool) -> Result<Mapping, RegionError> {
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .open(path)
            .map_err(|e| io_error("open", path, e))?;
        let len = file.metadata().map_err(|e| io_error("fstat", path, e))?.len();
        Self::map(&file, path, usize::try_from(len).unwrap_or(0), writable)
    }

    /// Memory of this process alone, for replay and tests.
    pub fn anonymous(len: usize) -> Result<Mapping, RegionError> {
        let name = Path::new("anonymous memory");
        let length =
            NonZeroUsize::new(len).ok_or_else(|| io_error("mmap", name, io::ErrorKind::InvalidInput))?;
        // SAFETY: a fresh private mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            nix::sys::mman::mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )
        }
        .map_err(|e| io_error("mmap", name, e))?
        .cast();
        let map = Mapping { base, len, inode: 0 };
        map.advise_huge();
        Ok(map)
    }

    fn map(file: &File, path: &Path, len: usize, writable: bool) -> Result<Mapping, RegionError> {
        let length =
            NonZeroUsize::new(len).ok_or_else(|| io_error("mmap", path, io::ErrorKind::UnexpectedEof))?;
        let meta = file.metadata().map_err(|e| io_error("fstat", path, e))?;
        let prot = if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // SAFETY: a shared mapping at an address of the kernel's choice overlaps nothing; the memory is only reached
        // as atomics. The directory belongs to the daemons: nobody else truncates the file.
        let base = unsafe { nix::sys::mman::mmap(None, length, prot, MapFlags::MAP_SHARED, file, 0) }
            .map_err(|e| io_error("mmap", path, e))?
            .cast();
        let map = Mapping { base, len, inode: meta.ino() };
        let hugetlb = fstatfs(file).is_ok_and(|s| s.filesystem_type().0 == HUGETLBFS_MAGIC);
        if !hugetlb {
            map.advise_huge();
        }
        let populate =
            if writable { MmapAdvise::MADV_POPULATE_WRITE } else { MmapAdvise::MADV_POPULATE_READ };
        map.advise(populate);
        Ok(map)
    }

    fn advise_huge(&self) {
        self.advise(MmapAdvise::MADV_HUGEPAGE);
    }

    /// Advice is a wish: kernels without it leave the mapping as it is, which is correct and slower.
    fn advise(&self, advice: MmapAdvise) {
        // SAFETY: the range is this mapping's own, and none of the advices used here changes its contents.
        let _ = unsafe { nix::sys::mman::madvise(self.base.cast(), self.len, advice) };
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is mapped; never true.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file's inode, 0 for anonymous memory: a new one under the same name means a new writer's file.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The table at `section`.
    ///
    /// # Panics
    /// When the section does not lie inside the mapping: layouts are checked when a file is opened.
    #[inline]
    pub fn table<T: Shared>(&self, section: Section) -> &[T] {
        const { assert!(align_of::<T>() <= 64) };
        assert!(section.end <= self.len && section.size == size_of::<T>());
        // SAFETY: a section's offset is at most its end, which the assertion above keeps inside the mapping.
        let start = unsafe { self.base.add(section.offset) };
        // SAFETY: a section holds `count` elements of `size` bytes between its offset, a multiple of 64, and its end: in
        // bounds and aligned (asserted); valid for any bit pattern and for concurrent writes (`Shared`), and alive as long
        // as `self`, whose borrow the slice carries.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<T>(), section.count) }
    }

    /// The header at the start of the file.
    #[inline]
    pub fn header<T: Shared>(&self) -> &T {
        &self.table::<T>(Section::header::<T>())[0]
    }

    /// What pages back this mapping, read from `/proc/self/smaps`.
    pub fn page_kind(&self) -> PageKind {
        let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return PageKind::Small };
        let base = self.base.addr().get();
        let mut here = false;
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            let Some(key) = words.next() else { continue };
            if let Some((from, to)) = key.split_once('-') {
                let from = usize::from_str_radix(from, 16);
                let to = usize::from_str_radix(to, 16);
                here = matches!((from, to), (Ok(f), Ok(t)) if f <= base && base < t);
            } else if here {
                let kib: u64 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
                let huge = match key {
                    "KernelPageSize:" => kib >= 2048,
                    "AnonHugePages:" | "ShmemPmdMapped:" | "FilePmdMapped:" => kib > 0,
                    _ => false,
                };
                if huge {
                    return PageKind::Huge;
                }
            }
        }
        PageKind::Small
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and every borrow of it has ended.
        let _ = unsafe { nix::sys::mman::munmap(self.base.cast(), self.len) };
    }
}

/// Asks the cache for the line of `value`, to read it; a hint without effect on correctness.
#[inline(always)]
pub fn prefetch<T>(value: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no architectural effect, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(value.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Asks the cache for the line of `value`, to write it: control has read it since, and a line that two cores share would be
/// asked for a second time by the write. A hint without effect on correctness.
#[inline(always)]
pub fn prefetch_to_write<T>(value: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no architectural effect, whatever the address; 64-bit processors without `prefetchw` take it
    // for a `nop`. The intrinsic would need a target feature that the baseline lacks.
    unsafe {
        std::arch::asm!(
            "prefetchw [{line}]",
            line = in(reg) value,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// A lock held for a writer's life: an open-file-description lock on `NAME.lock`, which the kernel lets go of when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct WriterLock {
    _file: File,
}

fn whole_file(kind: i32) -> nix::libc::flock {
    nix::libc::flock { l_type: i16::try_from(kind).unwrap_or(0), l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

impl WriterLock {
    /// Takes the lock beside `path`, or says who has it.
    pub fn acquire(path: &Path) -> Result<WriterLock, RegionError> {
        let path = lock_path(path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .map_err(|e| io_error("open", &path, e))?;
        let request = whole_file(nix::libc::F_WRLCK);
        if fcntl(&file, FcntlArg::F_OFD_SETLK(&request)).is_err() {
            return Err(RegionError::Held { pid: holder(&path), path });
        }
        // Lets a second instance, and the operator, name the holder.
        let write = file.set_len(0).and_then(|()| {
            use std::io::Write;
            write!(file, "{}", std::process::id())
        });
        write.map_err(|e| io_error("write", &path, e))?;
        Ok(WriterLock { _file: file })
    }

    /// Whether a writer of `path` lives, and its process id (0 when unknown).
    pub fn holder(path: &Path) -> Option<i32> {
        let path = lock_path(path);
        // Asking needs no right to write: the two daemons run as different users.
        let file = File::open(&path).ok()?;
        let mut query = whole_file(nix::libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut query)).ok()?;
        let free = i32::from(query.l_type) == nix::libc::F_UNLCK;
        (!free).then(|| holder(&path))
    }
}

fn holder(path: &Path) -> i32 {
    std::fs::read_to_string(path).ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0)
}
