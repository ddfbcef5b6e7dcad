//! Where libonnxruntime may be.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folders named by [`prefer`].
static PREFERRED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Has `dir` searched before all folders that nobody named.
pub(super) fn prefer(dir: PathBuf) {
    PREFERRED.lock().unwrap_or_else(PoisonError::into_inner).push(dir);
}

/// How the file is called on this system; a version may follow the name.
const FILE_NAME: &str = if cfg!(target_os = "windows") {
    "onnxruntime.dll"
} else if cfg!(target_os = "macos") {
    "libonnxruntime."
} else {
    "libonnxruntime.so"
};

/// The surroundings that the search looks at, so that a test can give its own.
pub(super) struct Surroundings<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) preferred: Vec<PathBuf>,
    pub(super) current_dir: PathBuf,
    pub(super) system_dirs: Vec<PathBuf>,
}

impl Surroundings<'_> {
    /// This process's.
    pub(super) fn of_process() -> Surroundings<'static> {
        let dirs = [
            "/usr/lib",
            "/usr/local/lib",
            "/usr/lib64",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/opt/onnxruntime/lib",
            "/opt/homebrew/lib",
        ];
        Surroundings {
            variable: &|name| std::env::var_os(name).filter(|value| !value.is_empty()),
            preferred: PREFERRED.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            current_dir: std::env::current_dir().unwrap_or_default(),
            system_dirs: dirs.iter().map(PathBuf::from).collect(),
        }
    }
}

/// What the search found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The files to try, best first.
    pub(super) files: Vec<PathBuf>,
    /// Whether somebody named the file, so that another one must not take its place.
    pub(super) is_named: bool,
    /// The folders that were searched.
    pub(super) searched: Vec<PathBuf>,
}

/// Lists the candidates: the one named by `configured` or `ORT_DYLIB_PATH`, else the preferred ones, else those of Python
/// wheels (active environment, `.venv` here, iotml's own, the Python on the path, per-user and system packages), else the
/// system's.
pub(super) fn find(configured: Option<&Path>, around: &Surroundings<'_>) -> Found {
    let named = configured.map(Path::to_path_buf).or_else(|| (around.variable)("ORT_DYLIB_PATH").map(PathBuf::from));
    if let Some(file) = named {
        let files = if file.is_dir() { libraries_in(&file) } else { vec![file.clone()] };
        return Found { files, is_named: true, searched: vec![file] };
    }
    let mut searched = around.preferred.clone();
    for prefix in python_prefixes(around) {
        searched.extend(wheel_dirs(&prefix));
    }
    if let Some(path) = (around.variable)("LD_LIBRARY_PATH") {
        searched.extend(std::env::split_paths(&path));
    }
    searched.extend(around.system_dirs.iter().cloned());
    let mut seen = BTreeSet::new();
    searched.retain(|dir| seen.insert(dir.clone()));
    let files = searched.iter().flat_map(|dir| libraries_in(dir)).collect();
    Found { files, is_named: false, searched }
}

fn python_prefixes(around: &Surroundings<'_>) -> Vec<PathBuf> {
    let mut prefixes = Vec::new();
    let variable = |name: &str| (around.variable)(name).map(PathBuf::from);
    prefixes.extend(variable("VIRTUAL_ENV"));
    prefixes.extend(variable("CONDA_PREFIX"));
    prefixes.push(around.current_dir.join(".venv"));
    prefixes.push(around.current_dir.join("venv"));
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    prefixes.extend(cache.map(|cache| cache.join("iotml/venv")));
    if let Some(path) = (around.variable)("PATH") {
        // A Python's packages lie beside the folder its program is in: no need to start it.
        let pythons = std::env::split_paths(&path).filter(|dir| dir.join("python3").exists());
        prefixes.extend(pythons.filter_map(|dir| dir.parent().map(Path::to_path_buf)));
    }
    prefixes.extend(variable("HOME").map(|home| home.join(".local")));
    prefixes
}

/// The folders in which a wheel below `prefix` keeps its library.
fn wheel_dirs(prefix: &Path) -> Vec<PathBuf> {
    let mut packages = vec![prefix.join("Lib/site-packages"), prefix.join("lib/python3/dist-packages")];
    for dir in sorted_entries(&prefix.join("lib")) {
        let is_python = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3."));
        if is_python {
            packages.push(dir.join("site-packages"));
            packages.push(dir.join("dist-packages"));
        }
    }
    packages.into_iter().map(|dir| dir.join("onnxruntime/capi")).filter(|dir| dir.is_dir()).collect()
}

fn libraries_in(dir: &Path) -> Vec<PathBuf> {
    let is_library = |file: &PathBuf| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with(FILE_NAME) && (!cfg!(target_os = "macos") || name.ends_with(".dylib"))
    };
    sorted_entries(dir).into_iter().filter(is_library).collect()
}

fn sorted_entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn around<'a>(variable: &'a dyn Fn(&str) -> Option<OsString>, dir: &Path) -> Surroundings<'a> {
        Surroundings {
            variable,
            preferred: Vec::new(),
            current_dir: dir.join("cwd"),
            system_dirs: vec![dir.join("system")],
        }
    }

    fn touch(file: PathBuf) -> PathBuf {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"").unwrap();
        file
    }

    #[test]
    fn active_environment_comes_first_then_local_then_system() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = |venv: &str| {
            let capi = "lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0";
            touch(dir.path().join(venv).join(capi))
        };
        let (active, local) = (wheel("active"), wheel("cwd/.venv"));
        let system = touch(dir.path().join("system/libonnxruntime.so"));
        touch(dir.path().join("system/libother.so"));
        let root = dir.path().join("active");
        let variable = move |name: &str| (name == "VIRTUAL_ENV").then(|| root.clone().into_os_string());
        let found = find(None, &around(&variable, dir.path()));
        assert_eq!(found.files, [active.clone(), local, system]);
        assert!(!found.is_named);
        let preferred = touch(dir.path().join("host/libonnxruntime.so.1.30.0"));
        let hosted = Surroundings { preferred: vec![dir.path().join("host")], ..around(&variable, dir.path()) };
        assert_eq!(find(None, &hosted).files[..2], [preferred, active]);
    }

    #[test]
    fn a_named_library_excludes_all_others() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path().join("system/libonnxruntime.so"));
        let variable = |name: &str| (name == "ORT_DYLIB_PATH").then(|| OsString::from("/nowhere/libonnxruntime.so"));
        let found = find(None, &around(&variable, dir.path()));
        assert_eq!(found.files, [PathBuf::from("/nowhere/libonnxruntime.so")]);
        assert!(found.is_named);
        let configured = find(Some(Path::new("/else/where.so")), &around(&variable, dir.path()));
        assert_eq!(configured.files, [PathBuf::from("/else/where.so")]);
    }

    #[test]
    fn nothing_found_still_says_where_it_looked() {
        let dir = tempfile::tempdir().unwrap();
        let found = find(None, &around(&|_| None, dir.path()));
        assert!(found.files.is_empty());
        assert_eq!(found.searched, [dir.path().join("system")]);
    }
}
