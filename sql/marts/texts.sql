-- texts: how much of a source's text a tokenizer knows, whole texts, before they are cut to a length.
-- key: the tokens artifact
-- source: slug of the source
-- source_key: the source artifact
-- tokenizer: kind of tokenizer
-- tokenizer_key: the tokenizer artifact
-- max_length: tokens of a text that are kept, [CLS] and [SEP] among them; null if all are
-- texts: its texts
-- invisible: texts that were left out because they have no visible character
-- without_token: texts of which no token is left; no pre-training set holds one
-- words: words, as the tokenizer cuts them
-- unknown_words: those that became [UNK]
-- letters: characters but white space
-- unknown_letters: those in unknown words
-- unknown_word_share: unknown_words of words
-- unknown_letter_share: unknown_letters of letters
-- unknown_most: the most frequent unknown words and their numbers, JSON
with runs as (select * from main.runs),

sources as (select * from runs where stage = 'source'),

tokenizers as (select * from runs where stage = 'tokenizer'),

tokens as (
    select
        *,
        inputs ->> '$.source.key' as source_key,
        inputs ->> '$.tokenizer.key' as tokenizer_key,
        (facts ->> 'words')::bigint as words,
        (facts ->> 'unknown_words')::bigint as unknown_words,
        (facts ->> 'letters')::bigint as letters,
        (facts ->> 'unknown_letters')::bigint as unknown_letters
    from runs
    where stage = 'tokens'
),

final as (
    select
        tokens.key,
        sources.slug as source,
        tokens.source_key,
        tokenizers.slug as tokenizer,
        tokens.tokenizer_key,
        (tokens.config ->> 'max_length')::bigint as max_length,
        (tokens.facts ->> 'sequences')::bigint as texts,
        (sources.facts ->> 'invisible')::bigint as invisible,
        (tokens.facts ->> 'without_token')::bigint as without_token,
        tokens.words,
        tokens.unknown_words,
        tokens.letters,
        tokens.unknown_letters,
        tokens.unknown_words / nullif(tokens.words, 0) as unknown_word_share,
        tokens.unknown_letters / nullif(tokens.letters, 0) as unknown_letter_share,
        tokens.facts -> 'unknown_most' as unknown_most
    from tokens
    left join sources on tokens.source_key = sources.key
    left join tokenizers on tokens.tokenizer_key = tokenizers.key
)

select * from final
order by source, tokenizer, max_length, key
