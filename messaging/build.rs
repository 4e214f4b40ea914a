//! Builds in what is published in `docs/schemas`, so that it is served.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let package =
        env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("no CARGO_MANIFEST_DIR"))?;
    let folder = Path::new(&package).join("../docs/schemas");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for name in entries(&folder)? {
        for file in entries(&name)? {
            files.push(file);
        }
    }
    files.sort();
    let mut table = String::from("const PUBLISHED: &[(&str, &str)] = &[");
    for file in &files {
        let name = file.strip_prefix(&folder).unwrap_or(file).to_string_lossy();
        // Writing to a text does not fail.
        let _ = write!(table, "({name:?}, include_str!({:?})),", file.to_string_lossy());
    }
    table.push_str("];\n");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?;
    fs::write(Path::new(&out).join("published.rs"), table)
}

/// What a folder holds; nothing where there is none.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect(),
    }
}
