//! Compiles the message definitions with protox: no system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/payload.proto", "proto/wire.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
