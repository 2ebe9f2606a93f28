// What mxfp4-bench writes: rows, comparisons with the peers, the chart.
#include <algorithm>
#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <mxfp4/error.h>

#include "tools/ceilings.h"
#include "tools/chart.h"
#include "tools/peers.h"

using namespace mxfp4;
using Catch::Approx;

namespace {

BenchRow row_of(const std::string& gpu, const std::string& mlp, std::int64_t tokens, double us) {
    BenchRow row;
    row.gpu = gpu;
    row.model = "gpt-oss-20b";
    row.mlp = mlp;
    row.layout = "native";
    row.tokens = tokens;
    row.size = {4, tokens * 4, mlp == "mlp1" ? 5760 : 2880, 2880};
    row.us = row.us_p10 = row.us_p90 = us;
    row.config = "wgmma_rs/native bm8 bn128 bk128 w12 s8 k1";
    row.how = "exact";
    return row;
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t n = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
}

const std::string kH100 = "NVIDIA H100 80GB HBM3";

}  // namespace

TEST_CASE("a row has the keys of the peers' figures") {
    BenchRow row = row_of(kH100, "mlp1", 1, 20.123456);
    const nlohmann::json json = to_json(row);
    for (const char* key : {"gpu", "model", "mlp", "layout", "tokens", "rows", "k", "n", "active", "us", "us_p10",
                            "us_p90", "floor_us", "config", "how", "rel_err"})
        CHECK(json.contains(key));
    CHECK(json["us"] == 20.123);
    CHECK(json["floor_us"].get<double>() == Approx(11.67).margin(0.01));
    CHECK(json["rel_err"].is_null());
    CHECK_FALSE(json.contains("cublas_us"));
    CHECK(*row.fraction_of_floor() == Approx(11.67 / 20.12).epsilon(1e-3));
    CHECK(row.tflops() == Approx(2.0 * 4 * 5760 * 2880 / 20.123456e-6 / 1e12));

    row.gpu = "Some CPU";
    row.rel_err = 1.6e-3;
    row.cublas_us = 7;
    CHECK(to_json(row)["floor_us"].is_null());
    CHECK(to_json(row)["rel_err"] == 1.6e-3);
    CHECK(to_json(row)["cublas_us"] == 7);
    row.rel_err = NAN;
    CHECK(to_json(row)["rel_err"].is_null());
}

TEST_CASE("what a GPU does at best, in units that people use") {
    const Ceilings ceilings{.bytes_per_us = 4.2204e6, .flops_per_us = 691.87e6};
    CHECK(to_json(ceilings) == nlohmann::json{{"copy_tb_per_s", 4.22}, {"cublas_tflops", 691.9}});
    CHECK(to_text(ceilings) == "This GPU: copies at 4.220 TB/s, cuBLAS 8192^3 at 691.9 TFLOP/s");
}

TEST_CASE("the built-in figures of the peers") {
    const std::vector<Peer> peers = parse_peers(embedded_peers());
    CHECK(peers.size() == 120);
    const Peer* peer = find_peer(peers, row_of(kH100, "mlp1", 1, 1));
    REQUIRE(peer);
    CHECK(peer->us.at("triton_us") == 22.79);
    CHECK(peer->us.at("best_us") == 20.57);
    CHECK(peer->active == 4);
    CHECK(find_peer(peers, row_of("NVIDIA H200", "mlp1", 1, 1))->us.at("best_us") == 20.3);
    // On another GPU, or for another number of tokens, there is nothing to compare with.
    CHECK_FALSE(find_peer(peers, row_of("NVIDIA H100 PCIe", "mlp1", 1, 1)));
    CHECK_FALSE(find_peer(peers, row_of(kH100, "mlp1", 3, 1)));
    BenchRow top_2 = row_of(kH100, "mlp1", 1, 1);
    top_2.size.rows = 2;
    CHECK_FALSE(find_peer(peers, top_2));
    CHECK_THROWS_AS(parse_peers("[{\"gpu\": 1}]"), Error);
    CHECK_THROWS_AS(parse_peers("nonsense"), Error);
}

TEST_CASE("geometric means by band") {
    const std::vector<Peer> peers = {{"h100", "gpt-oss-20b", "mlp1", 1, 4, 4, {{"best_us", 20}, {"triton_us", 40}}},
                                     {"h100", "gpt-oss-20b", "mlp1", 2, 8, 8, {{"best_us", 30}, {"triton_us", 30}}}};
    const std::vector<BenchRow> rows = {row_of(kH100, "mlp1", 1, 10), row_of(kH100, "mlp1", 2, 60),
                                        row_of(kH100, "mlp1", 64, 80)};
    const std::vector<BandSummary> bands = summarise(rows, peers);
    REQUIRE(bands.size() == 3);
    CHECK(bands[0].name == "1 .. 8");
    CHECK(bands[0].rows == 2);
    CHECK(*bands[0].against_best == Approx(std::sqrt(2.0 * 0.5)));
    CHECK(*bands[0].against_triton == Approx(std::sqrt(4.0 * 0.5)));
    CHECK(*bands[0].fraction == Approx(std::sqrt(*rows[0].fraction_of_floor() * *rows[1].fraction_of_floor())));
    CHECK(bands[0].slowest == "gpt-oss-20b mlp1 2 tokens: 2.00 times the best peer");
    CHECK(bands[1].name == "16 .. 64");
    CHECK_FALSE(bands[1].against_best);
    CHECK(to_json(bands[1])["best_peer_over_us"].is_null());
    CHECK(bands[2].name == "all");
    CHECK(bands[2].rows == 3);
    CHECK(count(to_text(bands), "\n") == 4);
}

TEST_CASE("the chart has a line for each of those who were timed") {
    const std::vector<Peer> peers = parse_peers(embedded_peers());
    std::vector<BenchRow> rows;
    for (std::int64_t tokens = 1; tokens <= 16384; tokens *= 2)
        for (const char* mlp : {"mlp1", "mlp2"}) rows.push_back(row_of(kH100, mlp, tokens, 12.0 * double(tokens)));
    const std::string svg = chart_svg(rows, peers, "a <title> & more");
    CHECK(svg.starts_with("<svg"));
    CHECK(svg.ends_with("</svg>\n"));
    CHECK(svg.find("a &lt;title&gt; &amp; more") != std::string::npos);
    // Two weights: ours, three peers and the floor; the second panel of each without the floor.
    CHECK(count(svg, "<polyline") == 2 * (5 + 4));
    CHECK(count(svg, "<rect") == 1 + 4);
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("inf") == std::string::npos);

    // On a machine of unknown ceilings: one panel, one line, even of one point.
    const std::string host = chart_svg(std::vector{row_of("Some CPU", "mlp1", 4, 100)}, peers, "host");
    CHECK(count(host, "<polyline") == 1);
    CHECK(count(host, "<rect") == 2);
    CHECK(host.find("nan") == std::string::npos);
}
