#include "pack/pack_files.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include <fmt/format.h>

#include "core/message.h"
#include "core/new_file.h"
#include "core/parallel.h"
#include "pack/packer.h"

namespace mxfp4 {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;

// One expert's bytes, packed or not.
struct ExpertBuffers {
    Bytes values, scales;
};

// Hands each thread buffers of its own and takes them back, so that they are allocated once.
class BufferPool {
  public:
    class Lease {
      public:
        explicit Lease(BufferPool& pool) : pool_(pool) {
            const std::lock_guard lock(pool_.mutex_);
            if (pool_.free_.empty()) return;
            buffers = std::move(pool_.free_.back());
            pool_.free_.pop_back();
        }
        ~Lease() {
            const std::lock_guard lock(pool_.mutex_);
            pool_.free_.push_back(std::move(buffers));
        }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;

        ExpertBuffers buffers;

      private:
        BufferPool& pool_;
    };

  private:
    std::mutex mutex_;
    std::vector<ExpertBuffers> free_;
};

void report(const FileOptions& options, std::uint64_t bytes) {
    if (options.progress) options.progress(bytes);
}

// What is known of a packed weight before its scales are.
WeightsInfo info_of(const ExpertTensor& expert, const PackOptions& options) {
    const CheckpointView view = expert.view();
    WeightsInfo info{.name = expert.name,
                     .format = checked_format(options),
                     .layout_version = kLayoutVersion[int(options.layout)],
                     .experts = view.experts,
                     .n = view.n,
                     .k = view.k};
    info.format.scale_class = ScaleClass::rebased;  // the longest text, so that the final metadata fits
    return info;
}

SourceNames source_names(const ExpertTensor& expert) {
    return {expert.blocks->name, expert.scales->name, expert.bias ? expert.bias->name : ""};
}

std::span<const std::uint8_t> expert_bytes(const Tensor& tensor, std::int64_t expert) {
    const std::size_t bytes = tensor.data.size() / std::size_t(tensor.shape[0]);
    return tensor.data.subspan(std::size_t(expert) * bytes, bytes);
}

// Which tensors of the output belong to a weight.
struct OutputPlace {
    std::size_t values = 0, scales = 0, expert_scale = 0, bias = 0;
};

struct Output {
    std::vector<Tensor> tensors;
    std::vector<OutputPlace> places;
    Metadata metadata;
};

// The large tensors come first, the biases of odd sizes last, so that everything before them stays aligned.
Output plan_output(const Checkpoint& checkpoint, const PackOptions& pack) {
    Output output;
    output.places.resize(checkpoint.experts().size());
    output.metadata.emplace(kFormatKey, kFormat);
    const auto append = [&](Tensor tensor) {
        output.tensors.push_back(std::move(tensor));
        return output.tensors.size() - 1;
    };
    std::vector<WeightsInfo> infos;
    for (std::size_t i = 0; i < output.places.size(); ++i) {
        const ExpertTensor& expert = checkpoint.experts()[i];
        const WeightsInfo& info = infos.emplace_back(info_of(expert, pack));
        if (metadata_key(info.name) == kFormatKey)
            throw Error(ErrorCode::bad_file, "an expert tensor has a name that packed files reserve",
                        {in_quotes(info.name), "", ""});
        output.metadata[metadata_key(info.name)] = metadata_text(info, source_names(expert));
        output.places[i].values = append(values_tensor(info));
        output.places[i].scales = append(scales_tensor(info));
    }
    if (pack.layout == Layout::native)
        for (std::size_t i = 0; i < infos.size(); ++i)
            output.places[i].expert_scale = append(expert_scale_tensor(infos[i]));
    for (std::size_t i = 0; i < infos.size(); ++i)
        if (const FileTensor& bias = checkpoint.experts()[i].bias)
            output.places[i].bias =
                append({.name = infos[i].name + ".bias", .dtype = bias->dtype, .shape = bias->shape});
    return output;
}

WeightsInfo pack_tensor(const ExpertTensor& expert, const PackOptions& pack, SafetensorsWriter& writer,
                        const OutputPlace& place, BufferPool& pool, const FileOptions& options) {
    const CheckpointView view = expert.view();
    PackPlan plan;
    try {
        plan = plan_pack(view, pack);
    } catch (const Error& error) {
        throw Error(ErrorCode::bad_file, fmt::format("{}: tensor {}: {}", expert.scales.file->path().string(),
                                                     in_quotes(expert.scales->name), error.what()));
    }
    plan.info.name = expert.name;
    const StoredShape stored = plan.info.stored();
    const auto value_bytes = std::uint64_t(stored.values_bytes()), scale_bytes = std::uint64_t(stored.scales_bytes());
    parallel_for(options.threads, view.experts, [&](std::int64_t e) {
        BufferPool::Lease lease(pool);
        lease.buffers.values.resize(value_bytes);
        lease.buffers.scales.assign(scale_bytes, 0);
        pack_expert(view, plan, e, lease.buffers.values.data(), lease.buffers.scales.data());
        writer.write(place.values, std::uint64_t(e) * value_bytes, lease.buffers.values);
        writer.write(place.scales, std::uint64_t(e) * scale_bytes, lease.buffers.scales);
        expert.forget_expert(e);
        report(options, value_bytes + scale_bytes);
    });
    if (pack.layout == Layout::native) {
        const std::vector<float> expert_scale = plan.expert_scale();
        writer.write(place.expert_scale, 0,
                     {reinterpret_cast<const std::uint8_t*>(expert_scale.data()), expert_scale.size() * sizeof(float)});
    }
    if (expert.bias) writer.write(place.bias, 0, expert.bias->data);
    expert.scales.file->forget(expert.scales->data);
    return plan.info;
}

// Unpacks one expert into the lease's buffers.
void unpack_into(const PackedEntry& entry, std::int64_t e, ExpertBuffers& to) {
    to.values.resize(std::size_t(entry.info.n * entry.info.k / 2));
    to.scales.resize(std::size_t(entry.info.n * entry.info.k / kBlockElements));
    unpack_expert(entry.view(), e, to.values.data(), to.scales.data());
}

void verify_tensor(const ExpertTensor& expert, const PackedContents& packed, BufferPool& pool,
                   const FileOptions& options) {
    const PackedEntry& entry = packed.at(expert.name);
    const auto differs = [&](const std::string& where) {
        throw Error(
            ErrorCode::bad_file,
            fmt::format("verification failed: what was packed of {} does not unpack to the checkpoint's bytes: {}",
                        in_quotes(expert.name), where));
    };
    if (bool(entry.bias) != bool(expert.bias) ||
        (entry.bias && !std::ranges::equal(entry.bias->data, expert.bias->data)))
        differs("bias");
    parallel_for(options.threads, entry.info.experts, [&](std::int64_t e) {
        BufferPool::Lease lease(pool);
        unpack_into(entry, e, lease.buffers);
        const auto same = [](std::span<const std::uint8_t> a, const Bytes& b) {
            return a.size() == b.size() && std::memcmp(a.data(), b.data(), b.size()) == 0;
        };
        if (!same(expert_bytes(*expert.blocks.tensor, e), lease.buffers.values))
            differs(fmt::format("blocks of expert {}", e));
        if (!same(expert_bytes(*expert.scales.tensor, e), lease.buffers.scales))
            differs(fmt::format("scales of expert {}", e));
        expert.forget_expert(e);
        packed.file().forget(expert_bytes(*entry.values, e));
        report(options, std::uint64_t(entry.info.stored().values_bytes() + entry.info.stored().scales_bytes()));
    });
    expert.scales.file->forget(expert.scales->data);
    packed.file().forget(entry.scales->data);
}

}  // namespace

std::uint64_t pack_work_bytes(const Checkpoint& checkpoint, const PackOptions& pack, bool verify) {
    std::uint64_t bytes = 0;
    for (const ExpertTensor& expert : checkpoint.experts()) {
        const WeightsInfo info = info_of(expert, pack);
        bytes +=
            std::uint64_t(info.experts) * std::uint64_t(info.stored().values_bytes() + info.stored().scales_bytes());
    }
    return verify ? 2 * bytes : bytes;
}

std::uint64_t unpack_work_bytes(const std::vector<const PackedEntry*>& entries) {
    std::uint64_t bytes = 0;
    for (const PackedEntry* entry : entries)
        bytes += std::uint64_t(entry->info.experts) * std::uint64_t(entry->info.n * entry->info.k / 32 * 17);
    return bytes;
}

FileSummary pack_file(const Checkpoint& checkpoint, const fs::path& out, const PackOptions& pack, bool verify,
                      const FileOptions& options) {
    refuse_overwriting(out, checkpoint.files());
    Output output = plan_output(checkpoint, pack);
    SafetensorsWriter writer(out, std::move(output.tensors), std::move(output.metadata));
    BufferPool pool;
    FileSummary summary{.weights = {}, .bytes = writer.file_bytes()};
    PackOptions pack_options = pack;
    pack_options.threads = options.threads;
    for (std::size_t i = 0; i < checkpoint.experts().size(); ++i) {
        const ExpertTensor& expert = checkpoint.experts()[i];
        const WeightsInfo info = pack_tensor(expert, pack_options, writer, output.places[i], pool, options);
        writer.set_metadata(metadata_key(info.name), metadata_text(info, source_names(expert)));
        summary.weights.push_back(info);
    }
    writer.finish();
    if (verify) {
        const PackedContents written(writer.temporary_path());
        for (const ExpertTensor& expert : checkpoint.experts()) verify_tensor(expert, written, pool, options);
    }
    writer.commit();
    return summary;
}

FileSummary unpack_file(const PackedContents& packed, const std::vector<const PackedEntry*>& entries,
                        const fs::path& out, const FileOptions& options) {
    refuse_overwriting(out, {packed.file().path()});
    std::vector<Tensor> tensors;
    for (const PackedEntry* entry : entries) {
        const std::int64_t groups = entry->info.k / kBlockElements;
        tensors.push_back({.name = entry->source_names.blocks,
                           .dtype = "U8",
                           .shape = {entry->info.experts, entry->info.n, groups, 16}});
        tensors.push_back(
            {.name = entry->source_names.scales, .dtype = "U8", .shape = {entry->info.experts, entry->info.n, groups}});
    }
    for (const PackedEntry* entry : entries)
        if (entry->bias)
            tensors.push_back(
                {.name = entry->source_names.bias, .dtype = entry->bias->dtype, .shape = entry->bias->shape});
    SafetensorsWriter writer(out, tensors, {{"format", "pt"}});
    BufferPool pool;
    FileSummary summary{.weights = {}, .bytes = writer.file_bytes()};
    std::size_t bias = 2 * entries.size();
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const PackedEntry& entry = *entries[i];
        parallel_for(options.threads, entry.info.experts, [&](std::int64_t e) {
            BufferPool::Lease lease(pool);
            unpack_into(entry, e, lease.buffers);
            writer.write(2 * i, std::uint64_t(e) * lease.buffers.values.size(), lease.buffers.values);
            writer.write(2 * i + 1, std::uint64_t(e) * lease.buffers.scales.size(), lease.buffers.scales);
            packed.file().forget(expert_bytes(*entry.values, e));
            report(options, lease.buffers.values.size() + lease.buffers.scales.size());
        });
        packed.file().forget(entry.scales->data);
        if (entry.bias) writer.write(bias++, 0, entry.bias->data);
        summary.weights.push_back(entry.info);
    }
    writer.finish();
    writer.commit();
    return summary;
}

}  // namespace mxfp4
