//! What a run needs of the machine, and gives back: cores, hugepages, a directory in memory, the two programs.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;
use region::Side;

use crate::cable;
use crate::stop;
use crate::traffic::looped_capture;

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";
/// Pages of 2 MiB that all programs of a case need together.
const PAGES_NEEDED: u64 = 1280;
/// Memory of each program where there are no hugepages, MiB.
const SMALL_PAGE_MIB: &str = "768";

/// Everything that stays the same over a run.
pub(crate) struct Stage {
    /// Results and what is built.
    pub(crate) out: PathBuf,
    /// A directory in memory, for the shared tables and sockets.
    pub(crate) memory: PathBuf,
    pub(crate) source: PathBuf,
    pub(crate) l3fwd: PathBuf,
    pub(crate) dataplane: PathBuf,
    pub(crate) cordond: PathBuf,
    /// The core that is measured.
    pub(crate) worker_core: usize,
    /// The core of everything else; the same one where there is only one.
    pub(crate) other_core: usize,
    /// Whether packet buffers lie on hugepages.
    pub(crate) hugepages: bool,
    /// Whether there are cables for `net_af_packet`.
    pub(crate) cables: bool,
    pub(crate) facts: MachineFacts,
    _memory: Memory,
    _pages: Option<Pages>,
}

/// For the head of a report.
pub(crate) struct MachineFacts {
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    pub(crate) dpdk: String,
    pub(crate) commit: String,
}

/// Hugepages reserved by this run; given back on drop.
struct Pages {
    before: String,
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Err(e) = fs::write(NR_HUGEPAGES, &self.before) {
            note(&format!("write({NR_HUGEPAGES}): {e}; it was {}", self.before.trim()));
        }
    }
}

/// A line of progress.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}

impl Stage {
    /// Builds what is to be measured and sets the machine up. Threads started later share its view of mounts.
    pub(crate) fn prepare(dataplane: Option<&Path>, small_pages: bool) -> Result<Stage, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("DPDK's memory and a core of one's own need root".to_owned());
        }
        let target = target_dir()?;
        let out = target.join("bench");
        fs::create_dir_all(&out).map_err(|e| format!("mkdir({}): {e}", out.display()))?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        output(mortal(root.join("bench/source/build.sh")).arg(&out))?;
        let [own, cordond] = build_daemons(root, &target)?;
        let dataplane = match dataplane {
            Some(path) => path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?,
            None => own,
        };
        let cores = allowed_cores()?;
        let (worker_core, other_core) = match cores.as_slice() {
            [] => return Err("no core may be used".to_owned()),
            [only] => {
                note("one core only: what is measured shares it with everything else");
                (*only, *only)
            }
            [first, .., last] => (*last, *first),
        };
        let memory = Memory::new(small_pages)?;
        stop::listen()?;
        let pages = reserve_pages();
        let cables = cable::lay();
        if let Err(e) = &cables {
            note(&format!("{e}: nothing is measured on net_af_packet"));
        }
        let stage = Stage {
            source: memory.driver(out.join("libcordon_source.so"))?,
            l3fwd: out.join("l3fwd"),
            out,
            memory: memory.path.clone(),
            dataplane,
            cordond,
            worker_core,
            other_core,
            hugepages: pages.is_ok(),
            cables: cables.is_ok(),
            facts: MachineFacts::read(root),
            _memory: memory,
            _pages: pages.unwrap_or_else(|e| {
                note(&format!("{e}: packet buffers lie on small pages"));
                None
            }),
        };
        for side in Side::ALL {
            let path = stage.memory.join(format!("{}.pcap", side.name()));
            fs::write(&path, looped_capture(side)).map_err(|e| format!("write({}): {e}", path.display()))?;
        }
        pin(stage.other_core)?;
        Ok(stage)
    }

    /// Where the looped captures lie.
    pub(crate) fn captures(&self) -> String {
        self.memory.display().to_string()
    }

    /// A folder in memory.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.memory.join(name);
        fs::create_dir_all(&path).map_err(|e| format!("mkdir({}): {e}", path.display()))?;
        Ok(path)
    }

    /// Cores as taskset and EAL take them.
    pub(crate) fn cpus(&self) -> String {
        if self.worker_core == self.other_core {
            self.worker_core.to_string()
        } else {
            format!("{},{}", self.other_core, self.worker_core)
        }
    }

    /// Cores of so many workers: that which is measured first, then the other.
    pub(crate) fn worker_cores(&self, workers: u16) -> Vec<usize> {
        [self.worker_core, self.other_core].into_iter().take(workers.into()).collect()
    }

    /// EAL's arguments that both programs get.
    pub(crate) fn eal(&self, prefix: &str) -> Vec<String> {
        let mut args = vec!["-d".to_owned(), self.source.display().to_string()];
        args.extend(["--no-pci".to_owned(), format!("--file-prefix={prefix}")]);
        if self.hugepages {
            args.push("--in-memory".to_owned());
        } else {
            args.extend(["--no-huge", "--no-shconf", "-m", SMALL_PAGE_MIB].map(str::to_owned));
        }
        args
    }
}

/// Keeps this process off the core that is measured; children choose their own.
fn pin(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|e| format!("core {core}: {e}"))
}

fn allowed_cores() -> Result<Vec<usize>, String> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(|e| format!("sched_getaffinity: {e}"))?;
    Ok((0..CpuSet::count()).filter(|c| set.is_set(*c).unwrap_or(false)).collect())
}

/// Cargo's target directory: this program is DIR/release/deps/NAME.
fn target_dir() -> Result<PathBuf, String> {
    let exe = env::current_exe().map_err(|e| format!("current_exe: {e}"))?;
    let dir = exe.ancestors().nth(3).map(Path::to_owned);
    dir.ok_or_else(|| format!("{} is in no target directory", exe.display()))
}

/// A command that ends with this process.
fn mortal(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// Runs a command whose progress may be seen; returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let name = words.join(OsStr::new(" ")).to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let out = out.map_err(|e| format!("{name} cannot be started: {e}"))?;
    if !out.status.success() {
        return Err(format!("{name}: {}; see above", out.status));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn build_daemons(root: &Path, target: &Path) -> Result<[PathBuf; 2], String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = mortal(cargo);
    // As make bench does: chosen packages alone would have other features, and be built once more.
    command.args(["build", "--release", "--locked", "--workspace", "--target-dir"]);
    output(command.arg(target).current_dir(root))?;
    Ok(["cordon-dataplane", "cordond"].map(|name| target.join("release").join(name)))
}

/// A directory in memory; gone when dropped.
struct Memory {
    path: PathBuf,
    mounted: bool,
}

impl Memory {
    /// A tmpfs with huge pages, as the daemons are to have it, in a mount namespace of our own that ends with us; where
    /// that is not allowed, a folder of `/dev/shm`. `huge=within_size`, since `huge=advise` gives a file that is
    /// allocated before it is mapped small pages.
    fn new(small_pages: bool) -> Result<Memory, String> {
        let name = format!("cordon-bench-{}", std::process::id());
        let options = if small_pages { "huge=never,mode=0755" } else { "huge=within_size,mode=0755" };
        let mut memory = Memory { path: Path::new("/run").join(&name), mounted: false };
        memory.create()?;
        let mounted = unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|e| format!("unshare: {e}"))
            .and_then(|()| output(Command::new("mount").args(["--make-rprivate", "/"])))
            .and_then(|_| {
                output(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&memory.path))
            });
        match mounted {
            Ok(_) => memory.mounted = true,
            Err(e) => {
                note(&format!("{e}: the tables go to /dev/shm, as it is"));
                memory = Memory { path: Path::new("/dev/shm").join(&name), mounted: false };
                memory.create()?;
            }
        }
        Ok(memory)
    }

    fn create(&self) -> Result<(), String> {
        fs::create_dir(&self.path).map_err(|e| format!("mkdir({}): {e}", self.path.display()))
    }

    /// Where EAL may load the driver from: it refuses what lies below a world-writable folder, as a checkout may.
    fn driver(&self, source: PathBuf) -> Result<PathBuf, String> {
        if !self.mounted {
            return Ok(source);
        }
        let to = self.path.join("source.so");
        fs::copy(&source, &to).map_err(|e| format!("copy({}): {e}", source.display()))?;
        Ok(to)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let gone = if self.mounted {
            output(Command::new("umount").arg("--lazy").arg(&self.path)).and_then(|_| {
                fs::remove_dir(&self.path).map_err(|e| format!("rmdir({}): {e}", self.path.display()))
            })
        } else {
            fs::remove_dir_all(&self.path).map_err(|e| format!("rm({}): {e}", self.path.display()))
        };
        if let Err(e) = gone {
            note(&e);
        }
    }
}

/// Sees to it that there are enough free hugepages; `None` when there are already.
fn reserve_pages() -> Result<Option<Pages>, String> {
    let free = || {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("HugePages_Free:"));
        line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    if free() >= PAGES_NEEDED {
        return Ok(None);
    }
    let before = fs::read_to_string(NR_HUGEPAGES).map_err(|e| format!("read({NR_HUGEPAGES}): {e}"))?;
    let count = before.trim().parse::<u64>().unwrap_or(0) + PAGES_NEEDED - free();
    fs::write(NR_HUGEPAGES, count.to_string()).map_err(|e| format!("write({NR_HUGEPAGES}): {e}"))?;
    let pages = Pages { before };
    if free() < PAGES_NEEDED {
        return Err(format!("{PAGES_NEEDED} hugepages of 2 MiB are needed, {} could be had", free()));
    }
    Ok(Some(pages))
}

impl MachineFacts {
    fn read(root: &Path) -> MachineFacts {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let quiet = |command: &mut Command| {
            let out = command.stderr(Stdio::null()).output().ok().filter(|o| o.status.success());
            out.map_or_else(|| "unknown".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        };
        MachineFacts {
            cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: kernel.trim().to_owned(),
            dpdk: quiet(Command::new("pkg-config").args(["--modversion", "libdpdk"])),
            commit: quiet(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root)),
        }
    }
}
