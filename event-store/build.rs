//! Has the migrations that are built in noticed when a new one comes: a macro's folder is no source file.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
