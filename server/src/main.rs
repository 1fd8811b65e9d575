//! The `lunette` binary.

fn main() -> std::process::ExitCode {
    lunette_server::cli::main()
}
