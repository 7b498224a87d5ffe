/* SPDX-License-Identifier: BSD-3-Clause */
/* json_writer: commas, levels, and text that no file name was asked to be. */
#include "tests/unit/unit.h"

#include "server/json_writer.h"

static char *text;
static size_t text_length;

static struct json_writer begin(void)
{
    struct json_writer json;
    FILE *to = open_memstream(&text, &text_length);
    assert_non_null(to);
    json_init(&json, to);
    return json;
}

static void expect(struct json_writer *json, const char *wanted)
{
    json_fini(json);
    fclose(json->to);
    assert_string_equal(text, wanted);
    free(text);
}

static void values_have_commas_between_them(void **state)
{
    struct json_writer json = begin();
    (void)state;
    json_begin_object(&json, NULL);
    json_number(&json, "a", UINT64_MAX);
    json_begin_array(&json, "b");
    json_string(&json, NULL, "c");
    json_bool(&json, NULL, true);
    json_begin_object(&json, NULL);
    json_end_object(&json);
    json_end_array(&json);
    json_null(&json, "d");
    json_bool(&json, "e", false);
    json_end_object(&json);
    expect(&json,
           "{\n  \"a\": 18446744073709551615,\n  \"b\": [\n    \"c\",\n    true,\n    {}\n  ],\n"
           "  \"d\": null,\n  \"e\": false\n}\n");
}

static void every_byte_becomes_good_json(void **state)
{
    static const struct {
        const char *value, *wanted;
    } cases[] = {
        {"", "\"\"\n"},
        {"a\"b\\c", "\"a\\\"b\\\\c\"\n"},
        {"\n\t\x1f", "\"\\u000a\\u0009\\u001f\"\n"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x92\xbe", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x92\xbe\"\n"},
        {"a\xff"
         "b",
         "\"a\\ufffdb\"\n"},
        {"\xc3", "\"\\ufffd\"\n"},
        {"\xe2\x82", "\"\\ufffd\\ufffd\"\n"},
        {"\xc0\x80", "\"\\ufffd\\ufffd\"\n"},                       /* overlong */
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"\n"},            /* a surrogate */
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"\n"}, /* past the last */
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct json_writer json = begin();
        json_string(&json, NULL, cases[i].value);
        expect(&json, cases[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_have_commas_between_them),
        cmocka_unit_test(every_byte_becomes_good_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
