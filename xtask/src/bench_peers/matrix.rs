//! The workloads.

/// The selection of `--quick`: each claim of the project has its workload.
pub(super) fn quick() -> Vec<String> {
    let names = [
        "read-4k-8x32",
        "write-4k-8x32",
        "mix-4k-8x32",
        "read-64k-8x32",
        "write-64k-8x32",
        "write-64k-8x1",
        "read-256k-8x32",
        "write-256k-8x32",
        "read-4k-1x1",
        "read-64k-8x32-digest",
        "write-64k-8x32-digest",
        "write-4k-8x32-fua",
    ];
    names.map(str::to_owned).to_vec()
}

/// The workload of the article from which the project grew: clients that write 64 KiB at a time to a Sun Fire X4500.
const OF_THE_ARTICLE: &str = "write-64k-8x1";

/// Those that the picture shows: of each size what streams do, of the smallest and the article's what waiting costs.
pub(super) const DRAWN: [&str; 10] = [
    "read-4k-8x32",
    "write-4k-8x32",
    "read-4k-1x1",
    "read-64k-8x32",
    "write-64k-8x32",
    OF_THE_ARTICLE,
    "read-256k-8x32",
    "write-256k-8x32",
    "read-1m-8x32",
    "write-1m-8x32",
];

/// A workload as a heading.
pub(super) fn heading(workload: &str) -> String {
    if workload == OF_THE_ARTICLE { format!("{workload}: the X4500 article's clients") } else { workload.to_owned() }
}

/// All: four sizes, reads, writes and a mix, one and eight sessions, one and 32 commands deep, with and without digests;
/// writes with FUA.
pub(super) fn all() -> Vec<String> {
    let mut names = Vec::new();
    for size in ["4k", "64k", "256k", "1m"] {
        for operation in ["read", "write", "mix"] {
            for load in ["8x32", "8x1", "1x32", "1x1"] {
                names.push(format!("{operation}-{size}-{load}"));
                names.push(format!("{operation}-{size}-{load}-digest"));
                if operation == "write" {
                    names.push(format!("{operation}-{size}-{load}-fua"));
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_selection_is_part_of_the_whole() {
        let all = all();
        assert!(quick().iter().all(|name| all.contains(name)));
        assert!(DRAWN.iter().all(|name| all.iter().any(|workload| workload == name)));
    }
}
