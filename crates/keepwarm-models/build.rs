//! Tells the files of the library that they are compiled here: see `FIRST_BUCKETS`.

fn main() {
    println!("cargo::rustc-cfg=keepwarm_models");
    println!("cargo::rerun-if-changed=build.rs");
}
