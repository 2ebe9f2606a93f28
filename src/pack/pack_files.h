// Files into files, tensor by tensor and expert by expert: memory stays at a few experts a thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include <mxfp4/packed.h>

#include "pack/checkpoint.h"
#include "pack/packed_file.h"

namespace mxfp4 {

struct FileOptions {
    int threads = 0;  // 0 = all cores
    // Called from any thread with the bytes written or compared since the last call; what it throws ends the work.
    std::function<void(std::uint64_t bytes)> progress = {};
};

struct FileSummary {
    std::vector<WeightsInfo> weights;
    std::uint64_t bytes = 0;  // of the output file
};

// Bytes of which progress will be told.
std::uint64_t pack_work_bytes(const Checkpoint& checkpoint, const PackOptions& pack, bool verify);
std::uint64_t unpack_work_bytes(const std::vector<const PackedEntry*>& entries);

// verify: before the output gets its name it is opened, unpacked and compared with the checkpoint.
FileSummary pack_file(const Checkpoint& checkpoint, const std::filesystem::path& out, const PackOptions& pack,
                      bool verify, const FileOptions& options);

// Checkpoint tensors under their source names.
FileSummary unpack_file(const PackedContents& packed, const std::vector<const PackedEntry*>& entries,
                        const std::filesystem::path& out, const FileOptions& options);

}  // namespace mxfp4
