"""Faults to put into the kernels, each of which the emulator must notice. {(file, where): {what: instead}}

Where is a text that the file has once; what stands between « and » is what a fault replaces."""

MUTATIONS = {
    ("producer.cuh", "«ptx::mbarrier_wait(ring_.empty(position.stage), position.parity ^ 1);»\n                issue_copies"): {
        "the producer does not wait for an empty stage": "",
    },
    ("producer.cuh", "«ptx::mbarrier_wait(ring_.empty(stage), position_.parity ^ 1);»"): {
        "producer threads do not wait for an empty stage": "",
    },
    ("producer.cuh", "position_.advance(«stages > 0 ? stages : 1»);"): {
        "an item without chunks does not count as a stage": "stages",
    },
    ("producer.cuh", "if (early_stages > 0 && «!is_early(work)»)"): {
        "weights of what were the groups are taken for those of what they are": "false",
    },
    ("producer.cuh", "«work.row == early.row»"): {
        "x of the rows that a group had is taken for that of those it has": "true",
    },
    ("producer.cuh", "«work.rows == early.rows»"): {
        "x of fewer rows than a tile has is taken for its own": "true",
    },
    ("producer.cuh", "weights_.bytes(early) + «(stage == 0 ? early_x_bytes(early) : 0)»"): {
        "x that came early is not given back": "0",
    },
    ("producer.cuh", "«ring_.wait_until_made();»\n                    early_stages"): {
        "weights are asked for before there is a ring": "",
    },
    ("consumer.cuh", "«ptx::lane_id() == reader ? ptx::load_shared4(ring.rows(stage)) : 0»"): {
        "lanes that do not give a stage back read what threads have written there": "ptx::load_shared4(ring.rows(stage))",
    },
    ("consumer.cuh", "«kernel.ring.wait_until_made();»"): {
        "consumers do not wait until there is a ring": "",
    },
    ("producer.cuh", "ring_.wait_until_made();\n            «ptx::wait_for_grids_before();»"): {
        "the groups are read before the grids before have ended": ";",
    },
    ("producer.cuh", "ask_early(work);\n                    «ptx::wait_for_grids_before();»"): {
        "the groups are compared before the grids before have ended": "",
    },
    ("producer.cuh", "known = «scheduler.unchanged(groups)»;"): {
        "the groups are taken for what they were": "true",
    },
    ("scheduler.cuh", "if («32 * i <= base_») body(i);"): {
        "the first 32 groups alone are compared with what they were": "i == 0",
    },
    ("scheduler.cuh", "changed = «kept_ == 0 || base_ >= kMostKept»;"): {
        "groups that are not kept are taken for what they were": "kept_ == 0",
    },
    ("scheduler.cuh", "kLargestFirst || «(kConfig.split_k != 1 && arguments.groups > 32)» ?"): {
        "of all groups that were counted the first alone are compared": "false",
    },
    ("producer.cuh", "mbarrier_arrive_expect_tx(ring_.full(stage), «weights_.bytes(work)»"): {
        "16 bytes too few are announced": "weights_.bytes(work) - 16",
        "16 bytes too many are announced": "weights_.bytes(work) + 16",
    },
    ("producer.cuh", "x_rows_at(row, «rows», x_rows_of_stage"): {
        "a tile's last row of x is taken for one beyond it": "rows - 1",
        "x is copied from a row too far on": "rows + 1",
    },
    ("producer.cuh", "row = work.row + «half * work.tile_m»"): {
        "both halves of a tall tile get the first one's x": "0",
    },
    ("pipeline.cuh", "«consumer_warpgroups(kConfig) * 4» * kConfig.cluster"): {
        "one arrival too few empties a stage": "consumer_warpgroups(kConfig) * 4 - 1",
        "one arrival too many must empty a stage": "consumer_warpgroups(kConfig) * 4 + 1",
    },
    ("pipeline.cuh", "«kConfig.cluster» * (lanes_arrive()"): {
        "one block of a cluster empties a stage for both": "1",
    },
    ("pipeline.cuh", "«ptx::lane_id() < kConfig.cluster», barrier"): {
        "a block tells the first of its cluster alone that a stage is empty": "ptx::lane_id() == 0",
    },
    ("pipeline.cuh", "barrier, «ptx::lane_id()»);"): {
        "a block tells itself twice that a stage is empty, and the other not": "ptx::cluster_rank()",
    },
    ("pipeline.cuh", "«ptx::cluster_sync();»"): {
        "a block does not wait for the other's barriers": "__syncthreads();",
    },
    ("pipeline.cuh", "«__syncwarp();»"): {
        "a warp releases a stage that some of its lanes still read": "",
    },
    ("x_tile.cuh", "copy_elements(to + row * 128 + «((piece ^ (row & 7)) << 4)»"): {
        "two pieces of an unaligned x are swapped": "((piece ^ (row & 7) ^ 1) << 4)",
    },
    ("producer.cuh", "«(chunk + c) % 2 != ptx::cluster_rank()»"): {
        "both blocks of a cluster bring every chunk of x to both": "false",
        "neither block of a cluster brings x": "true",
    },
    ("consumer.cuh", "«if constexpr (kConfig.cluster > 1) ptx::cluster_sync();»"): {
        "a block ends while the other still uses its memory": "",
    },
    ("scheduler.cuh", ".n = pair * 2 + «ptx::cluster_rank()»,"): {
        "both blocks of a cluster have the same outputs": "0",
    },
    ("scheduler.cuh", "if («tile >= beside»)"): {
        "blocks of a cluster have other outputs, though one column is left": "false",
    },
    ("scheduler.cuh", ".tiles_m = «(tiles_m + 1) / 2 * 2»};"): {
        "the rows of the last column are split by one part too few": "(tiles_m + 1) / 2 * 2 - 1",
    },
    ("scheduler.cuh", "kConfig.cluster > 1 && «at.m * per_tile >= rows»"): {
        "a block without rows does not go along with the other": "false",
    },
    ("scheduler.cuh", "work.rows = left < most ? «left» :"): {
        "a tile loses its last row": "left - 1",
    },
    ("scheduler.cuh", ".m = «tile % pairs * 2»,"): {
        "a tall tile begins with the second half of the one above": "tile % pairs",
    },
    ("scheduler.cuh", "tile -= «tall»;"): {
        "wide tiles of a group begin after the columns that its tall ones have": "0",
    },
    ("scheduler.cuh", "const int left = «work.rows - half * work.tile_m»;"): {
        "the last row of a tall tile is lost": "work.rows - half * (work.tile_m + 1)",
    },
    ("epilogue.cuh", "work.row + «slab * work.tile_m»"): {
        "the second half of a tall tile is stored over the first": "0",
    },
    ("scheduler.cuh", "work.first_range = «range_of(tile_begin)»;"): {
        "a tile's first range is taken for the next": "range_of(tile_begin) + 1",
    },
    ("scheduler.cuh", "tile_ += «gridDim.x»;"): {
        "a wave of whole tiles is longer than the grid": "gridDim.x + 1",
    },
    ("wgmma_rs.cuh", "«ptx::mbarrier_wait(ring.full(position.stage), position.parity);»\n        const u64 x = x_descriptor<kN, kTall>(position.stage, part);\n"
                     "        const StageUnits units(ring, position.stage, slab, part);\n        constexpr"): {
        "consumers do not wait for a full stage": "",
    },
    ("wgmma_rs.cuh", "«ptx::mbarrier_wait(ring.full(position.stage), position.parity);»\n        const u64 x = x_descriptor<kN, kTall>(position.stage, part);\n"
                     "        const StageUnits units(ring, position.stage, slab, part);\n#pragma unroll 1"): {
        "consumers do not wait for the last stage": "",
    },
    ("wgmma_rs.cuh", "units.load(s, «c»), chunk + c"): {
        "the chunks of the last stage are multiplied with the weights of its first": "0",
    },
    ("wgmma_rs.cuh", "x + «c» * kXStep<kN, kTall>, d[s], d[kSlabs - 1]);\n            ptx"): {
        "the chunks of the last stage are multiplied with the x of its first": "0",
    },
    ("wgmma_rs.cuh", "if (!kTall && half_of_x(kConfig, «work.tile_m»))"): {
        "the last stage is thought to hold more rows of x than it does": "work.tile_m + 8",
    },
    ("wgmma_rs.cuh", "ptx::wgmma_wait_for(d);\n        }\n        «ring.release(position);»"): {
        "consumers do not release the last stage": "position.advance();",
    },
    ("wgmma_rs.cuh", "«ptx::wgmma_wait_for(d);»\n        ring.release"): {
        "products are not waited for": "",
    },
    ("wgmma_rs.cuh", "if (kParts > 1 && «chunk - part < work.chunk_end»)"): {
        "a part does not release a stage that had nothing for it": "false",
    },
    ("wgmma_rs.cuh", "a[i], x + «kXSecondHalf» + 2"): {
        "both halves of a tall tile are multiplied with the first one's x": "0",
    },
    ("wgmma_rs.cuh", "a[i], x + 2 * «(first_step + i)»"): {
        "a k16 step reads the x of the next": "(first_step + i + 1)",
    },
    ("warp_rs.cuh", "«ptx::mbarrier_wait(ring.full(position.stage), position.parity);»\n            const StageUnits"): {
        "warps do not wait for a full stage": "",
    },
    ("warp_rs.cuh", "[&] { «ring.release(position);» }"): {
        "warps do not release a stage": "position.advance();",
    },
    ("warp_rs.cuh", "halves[1] = halves[0] ^ «64»;"): {
        "half of a chunk is multiplied with the x of the other": "0",
    },
    ("warp_rs.cuh", "next_x.load(x, «(c + 1)»"): {
        "a chunk is multiplied with the x of the one before": "c",
    },
    ("warp_rs.cuh", "multiply_chunks<1>(units, «c», x"): {
        "warps multiply the first chunk of the last stage for all of them": "0",
    },
    ("wgmma_ss.cuh", "            «ptx::wgmma_wait_for(d);\n            ring.release(position);»"): {
        "a stage is released before its products are waited for": "ring.release(position); ptx::wgmma_wait_for(d);",
    },
    ("producer.cuh", "«ptx::fence_proxy_async();»"): {
        "decoded weights are not fenced": "",
    },
    ("epilogue.cuh", "16) * 128 + «((p ^ (row & 7)) << 4)»"): {
        "two pieces of a staged row are swapped": "((p ^ (row & 7) ^ 1) << 4)",
    },
    ("epilogue.cuh", "«sync_parts();»\n        if (part == 0)"): {
        "parts of k are added before all are there": "",
    },
    ("epilogue.cuh", "«sync_parts();»  // the staging"): {
        "parts of k are written over before they are added": "",
    },
    ("epilogue.cuh", "«sync();»\n        // Eight threads take a row"): {
        "a staged row is read before all of it is written": "",
    },
    ("epilogue.cuh", "«sync();»  // the next store"): {
        "staged rows are written over before all are read": "",
    },
    ("epilogue.cuh", "add_partials(work, «work.first_range + 1», d);"): {
        "the beginning of a tile is added twice": "work.first_range",
    },
    ("epilogue.cuh", "if (arrived == others) «*counter = 0;»"): {
        "a counter is not left zero": ";",
    },
    ("epilogue.cuh", "«2 * range + (starts_range ? 0 : 1)»"): {
        "a partial sum is taken for another": "2 * range",
    },
    ("epilogue.cuh", "if («first + i < a.n») to[i]"): {
        "outputs beyond n are written": "true",
    },
    ("mma.cuh", "«ptx::cp_async_wait<kConfig.stages - 2>();»"): {
        "x is read before it has landed": "ptx::cp_async_wait<kConfig.stages - 1>();",
    },
    ("mma.cuh", "«__syncthreads();»  // this stage"): {
        "x is written over while some still read it": "",
    },
}
